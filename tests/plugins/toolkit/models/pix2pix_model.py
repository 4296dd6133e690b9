"""A paired translator, as a plug-in of the toolkit's generations up to 2024 is written.

G turns real_A into fake_B; the critic sees the pair (A, B) and tells real pairs from made ones; an L1 term keeps fake_B
near the B that belongs to this A. Nothing in this file knows of DUIIT.
"""
import torch

from . import networks
from .base_model import BaseModel


class Pix2PixModel(BaseModel):
    @staticmethod
    def modify_commandline_options(parser, is_train=True):
        parser.set_defaults(norm='batch', netG='unet_256', dataset_mode='aligned')
        if is_train:
            parser.set_defaults(pool_size=0, gan_mode='vanilla')
            parser.add_argument('--lambda_L1', type=float, default=100.0, help='weight of the L1 term')
        return parser

    def __init__(self, opt):
        BaseModel.__init__(self, opt)
        self.loss_names = ['G_GAN', 'G_L1', 'D_real', 'D_fake']
        self.visual_names = ['real_A', 'fake_B', 'real_B']
        self.model_names = ['G', 'D'] if self.isTrain else ['G']
        self.netG = networks.define_G(opt.input_nc, opt.output_nc, opt.ngf, opt.netG, opt.norm, not opt.no_dropout,
                                      opt.init_type, opt.init_gain, self.gpu_ids)
        if self.isTrain:
            self.netD = networks.define_D(opt.input_nc + opt.output_nc, opt.ndf, opt.netD, opt.n_layers_D, opt.norm,
                                          opt.init_type, opt.init_gain, self.gpu_ids)
            self.criterionGAN = networks.GANLoss(opt.gan_mode).to(self.device)
            self.criterionL1 = torch.nn.L1Loss()
            for letter in 'GD':
                adam = torch.optim.Adam(getattr(self, 'net' + letter).parameters(), lr=opt.lr, betas=(opt.beta1, 0.999))
                setattr(self, 'optimizer_' + letter, adam)
                self.optimizers.append(adam)

    def set_input(self, input):
        swap = self.opt.direction == 'BtoA'
        self.real_A = input['B' if swap else 'A'].to(self.device)
        self.real_B = input['A' if swap else 'B'].to(self.device)
        self.image_paths = input['B_paths' if swap else 'A_paths']

    def forward(self):
        self.fake_B = self.netG(self.real_A)

    def backward_D(self):
        made, real = (torch.cat((self.real_A, image), 1) for image in (self.fake_B.detach(), self.real_B))
        self.loss_D_fake = self.criterionGAN(self.netD(made), False)
        self.loss_D_real = self.criterionGAN(self.netD(real), True)
        ((self.loss_D_fake + self.loss_D_real) / 2).backward()

    def backward_G(self):
        judged = self.netD(torch.cat((self.real_A, self.fake_B), 1))
        self.loss_G_GAN = self.criterionGAN(judged, True)
        self.loss_G_L1 = self.opt.lambda_L1 * self.criterionL1(self.fake_B, self.real_B)
        (self.loss_G_GAN + self.loss_G_L1).backward()

    def optimize_parameters(self):
        self.forward()
        self.set_requires_grad(self.netD, True)
        self.optimizer_D.zero_grad()
        self.backward_D()
        self.optimizer_D.step()
        self.set_requires_grad(self.netD, False)
        self.optimizer_G.zero_grad()
        self.backward_G()
        self.optimizer_G.step()
