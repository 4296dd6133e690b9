"""Pairs of images, A on the left and B on the right of one file, below <dataroot>/<phase>: a plug-in data set."""
import os

from PIL import Image

from data.base_dataset import BaseDataset, get_params, get_transform
from data.image_folder import make_dataset


class AlignedDataset(BaseDataset):
    def __init__(self, opt):
        BaseDataset.__init__(self, opt)
        self.dir_AB = os.path.join(opt.dataroot, opt.phase)  # noqa: PTH118
        self.AB_paths = sorted(make_dataset(self.dir_AB, opt.max_dataset_size))
        assert opt.load_size >= opt.crop_size
        self.input_nc = opt.output_nc if opt.direction == 'BtoA' else opt.input_nc
        self.output_nc = opt.input_nc if opt.direction == 'BtoA' else opt.output_nc

    def __getitem__(self, index):
        path = self.AB_paths[index]
        both = Image.open(path).convert('RGB')
        width, height = both.size
        A, B = (both.crop((left, 0, left + width // 2, height)) for left in (0, width // 2))
        params = get_params(self.opt, A.size)       # one crop and one flip for both halves
        A = get_transform(self.opt, params, grayscale=(self.input_nc == 1))(A)
        B = get_transform(self.opt, params, grayscale=(self.output_nc == 1))(B)
        return {'A': A, 'B': B, 'A_paths': path, 'B_paths': path}

    def __len__(self):
        return len(self.AB_paths)
