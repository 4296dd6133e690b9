"""A plug-in that builds on another plug-in: pix2pix from one channel to three, with pictures made for looking at."""
import numpy as np

import util.util as util

from .pix2pix_model import Pix2PixModel


class GreyToColourModel(Pix2PixModel):
    @staticmethod
    def modify_commandline_options(parser, is_train=True):
        Pix2PixModel.modify_commandline_options(parser, is_train)
        parser.set_defaults(input_nc=1, output_nc=3, no_dropout=True)
        return parser

    def __init__(self, opt):
        Pix2PixModel.__init__(self, opt)
        self.visual_names = ['real_A', 'fake_B', 'shown']

    def compute_visuals(self):
        picture = util.tensor2im(self.fake_B)
        assert picture.dtype == np.uint8
        self.shown = self.fake_B.clamp(-1, 1)
