"""A paired translator, as a plug-in of the toolkit's generation of 2025 is written: no gpu_ids anywhere, networks
initialised and placed by setup, the device in opt, an image pool. It stands right in the plug-in folder."""
import torch

from util.image_pool import ImagePool

from . import networks
from .base_model import BaseModel


class PairedModel(BaseModel):
    @staticmethod
    def modify_commandline_options(parser, is_train=True):
        parser.set_defaults(norm="instance", netG="resnet_6blocks", dataset_mode="pairs", no_dropout=True)
        if is_train:
            parser.set_defaults(pool_size=4, gan_mode="lsgan")
            parser.add_argument("--lambda_L1", type=float, default=10.0, help="weight of the L1 term")
        return parser

    def __init__(self, opt):
        super().__init__(opt)
        self.loss_names = ["G", "L1", "D"]
        self.visual_names = ["real_A", "fake_B", "real_B"]
        self.model_names = ["G", "D"] if self.isTrain else ["G"]
        self.netG = networks.define_G(opt.input_nc, opt.output_nc, opt.ngf, opt.netG, opt.norm, not opt.no_dropout,
                                      opt.init_type, opt.init_gain)
        if self.isTrain:
            self.netD = networks.define_D(opt.output_nc, opt.ndf, opt.netD, opt.n_layers_D, opt.norm, opt.init_type,
                                          opt.init_gain)
            self.pool = ImagePool(opt.pool_size)
            self.criterionGAN = networks.GANLoss(opt.gan_mode).to(opt.device)
            self.criterionL1 = torch.nn.L1Loss()
            self.optimizer_G = torch.optim.Adam(self.netG.parameters(), lr=opt.lr, betas=(opt.beta1, 0.999))
            self.optimizer_D = torch.optim.Adam(self.netD.parameters(), lr=opt.lr, betas=(opt.beta1, 0.999))
            self.optimizers = [self.optimizer_G, self.optimizer_D]

    def set_input(self, input):
        self.real_A = input["A"].to(self.device)
        self.real_B = input["B"].to(self.device)
        self.image_paths = input["A_paths"]

    def forward(self):
        self.fake_B = self.netG(self.real_A)

    def optimize_parameters(self):
        self.forward()
        self.set_requires_grad([self.netD], False)
        self.optimizer_G.zero_grad()
        self.loss_L1 = self.criterionL1(self.fake_B, self.real_B) * self.opt.lambda_L1
        self.loss_G = self.criterionGAN(self.netD(self.fake_B), True)
        (self.loss_G + self.loss_L1).backward()
        self.optimizer_G.step()
        self.set_requires_grad([self.netD], True)
        self.optimizer_D.zero_grad()
        older = self.pool.query(self.fake_B)
        self.loss_D = (self.criterionGAN(self.netD(self.real_B), True)
                       + self.criterionGAN(self.netD(older.detach()), False)) * 0.5
        self.loss_D.backward()
        self.optimizer_D.step()
