"""Adversarial losses (the L_adv of Eq. 1): LSGAN, the first GAN's cross-entropy, Wasserstein with gradient penalty."""
import torch
from torch import nn

from duiit.util.errors import UserError

GAN_MODES = ("lsgan", "vanilla", "wgangp")


class GANLoss(nn.Module):
    """`criterion(prediction, target_is_real)`: how far a discriminator's scores are from "all real" or "all fake".

    The discriminator must not end in a sigmoid. With wgangp the value is minus or plus the mean score.
    """

    real_label: torch.Tensor
    fake_label: torch.Tensor

    def __init__(self, gan_mode: str, target_real_label: float = 1.0, target_fake_label: float = 0.0) -> None:
        super().__init__()
        if gan_mode not in GAN_MODES:
            raise UserError(f"--gan_mode {gan_mode} is not known: use one of {', '.join(GAN_MODES)}")
        self.register_buffer("real_label", torch.tensor(target_real_label))
        self.register_buffer("fake_label", torch.tensor(target_fake_label))
        self.gan_mode = gan_mode
        self.loss = {"lsgan": nn.MSELoss(), "vanilla": nn.BCEWithLogitsLoss(), "wgangp": None}[gan_mode]

    def get_target_tensor(self, prediction: torch.Tensor, target_is_real: bool) -> torch.Tensor:
        """The wanted score, spread over the shape of `prediction` without copying it."""
        return (self.real_label if target_is_real else self.fake_label).expand_as(prediction)

    def forward(self, prediction: torch.Tensor, target_is_real: bool) -> torch.Tensor:
        if self.loss is None:           # wgangp
            return -prediction.mean() if target_is_real else prediction.mean()
        return self.loss(prediction, self.get_target_tensor(prediction, target_is_real))


def cal_gradient_penalty(netD: nn.Module, real_data: torch.Tensor, fake_data: torch.Tensor, device: str | torch.device,
                         type: str = "mixed", constant: float = 1.0,
                         lambda_gp: float = 10.0) -> tuple[torch.Tensor | float, torch.Tensor | None]:
    """WGAN-GP: lambda_gp * mean((|dD/dx| - constant) ** 2), one norm an image, and the gradients (N, C*H*W).

    `type` says where the slope is taken: at `real` images, at `fake` ones, or at random points between (`mixed`).
    """
    if lambda_gp <= 0.0:
        return 0.0, None
    points = _penalty_points(real_data.detach(), fake_data.detach(), device, type).requires_grad_(True)
    scores = netD(points)
    gradients, = torch.autograd.grad(scores, points, torch.ones_like(scores), create_graph=True)
    gradients = gradients.reshape(len(real_data), -1)  # (N, C*H*W)
    # The small shift keeps the norm's own derivative finite where the discriminator is flat.
    norms = (gradients + 1e-16).norm(2, dim=1)  # (N,)
    return ((norms - constant) ** 2).mean() * lambda_gp, gradients


def _penalty_points(real: torch.Tensor, fake: torch.Tensor, device: str | torch.device, kind: str) -> torch.Tensor:
    if kind == "real":
        return real.clone()
    if kind == "fake":
        return fake.clone()
    if kind == "mixed":
        share = torch.rand(len(real), 1, 1, 1, device=device)  # one mixture an image
        return share * real + (1 - share) * fake
    raise UserError(f"gradient penalty at {kind} points is not known: use real, fake or mixed")
