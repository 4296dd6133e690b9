"""The networks, losses and schedules that models are put together from.

Models, also plug-ins written for the public toolkit, use everything as `networks.<name>`. Nothing here knows of data
or options beyond the few values that a function is given.
"""
from duiit.models.networks.discriminators import DISCRIMINATORS, NLayerDiscriminator, PixelDiscriminator, define_D
from duiit.models.networks.gan_loss import GAN_MODES, GANLoss, cal_gradient_penalty
from duiit.models.networks.generators import (
    GENERATORS,
    ResnetBlock,
    ResnetGenerator,
    UnetGenerator,
    UnetSkipConnectionBlock,
    define_G,
)
from duiit.models.networks.heads import LabelHead
from duiit.models.networks.init import INIT_TYPES, init_net, init_weights
from duiit.models.networks.losses import PredictionLoss
from duiit.models.networks.norm import NORMS, Identity, get_norm_layer, running_statistics_kept
from duiit.models.networks.predictors import PREDICTORS, PredictorNet, check_predictor_size, define_P
from duiit.models.networks.reversal import DomainClassifier, reversal_strength, reverse_gradient
from duiit.models.networks.schedulers import LR_POLICIES, get_scheduler
from duiit.models.networks.sizes import check_discriminator_size, check_size, size_multiple

__all__ = [
    "DISCRIMINATORS", "GAN_MODES", "GENERATORS", "INIT_TYPES", "LR_POLICIES", "NORMS", "PREDICTORS",
    "DomainClassifier", "GANLoss", "Identity", "LabelHead", "NLayerDiscriminator", "PixelDiscriminator",
    "PredictionLoss", "PredictorNet",
    "ResnetBlock", "ResnetGenerator", "UnetGenerator", "UnetSkipConnectionBlock",
    "cal_gradient_penalty", "check_discriminator_size", "check_predictor_size", "check_size",
    "define_D", "define_G", "define_P", "get_norm_layer", "get_scheduler", "init_net", "init_weights",
    "reversal_strength", "reverse_gradient", "size_multiple", "running_statistics_kept",
]
