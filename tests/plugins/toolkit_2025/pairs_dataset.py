"""Pairs from two folders with equal names, <dataroot>/<phase>A and <phase>B: a plug-in data set with an option."""
from pathlib import Path

from PIL import Image

from data.base_dataset import BaseDataset, get_transform
from data.image_folder import make_dataset


class PairsDataset(BaseDataset):
    @staticmethod
    def modify_commandline_options(parser, is_train):
        parser.add_argument("--invert_B", action="store_true", help="turn B's contrast round")
        parser.set_defaults(max_dataset_size=10, no_flip=True, preprocess="none")
        return parser

    def __init__(self, opt):
        super().__init__(opt)
        self.A, self.B = (make_dataset(str(Path(opt.dataroot, opt.phase + side)), opt.max_dataset_size)
                          for side in "AB")
        self.transform = get_transform(opt, grayscale=opt.input_nc == 1)

    def __getitem__(self, index):
        A, B = (self.transform(Image.open(paths[index]).convert("RGB")) for paths in (self.A, self.B))
        return {"A": A, "B": -B if self.opt.invert_B else B, "A_paths": self.A[index], "B_paths": self.B[index]}

    def __len__(self):
        return min(len(self.A), len(self.B))
