"""A source modality as a model sees it, and the paper's letters for what belongs to it.

Everything a source has is kept on the model, under the names that the toolkit's contract promises: `netG_A`, `fake_B`,
`loss_cycle_A`, and with several sources `netG_A_mri` and so on. There the log, the pages, checkpoints and plug-ins find
it, and what a plug-in assigns there holds here. This file is the one place that knows both spellings.
"""
import weakref
from collections.abc import Callable
from typing import Any, TypeVar

import torch


class Published:
    """An attribute that lives on the model: `G = Published("netG_A")` makes `pair.G` the model's netG_A<ending>."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __get__(self, source: "Source | None", owner: type | None = None) -> Any:
        if source is None:                  # asked of the class, by help() for one
            return self
        return getattr(source.model, f"{self.name}{source}")

    def __set__(self, source: "Source", value: Any) -> None:
        setattr(source.model, f"{self.name}{source}", value)


class Source:
    """One source modality of `model`. As text it is the ending of its names: f"loss_G_A{source}"."""

    y = Published("real_A")                 # its images (N, C, H, W) in [-1, 1]

    def __init__(self, model: Any, modality: str, ending: str) -> None:
        self._model, self.modality, self.ending = weakref.ref(model), modality, ending

    @property
    def model(self) -> Any:
        """Which holds this source in turn: by a weak reference, so that a model that nobody needs is gone at once."""
        return self._model()

    def __str__(self) -> str:
        return self.ending

    def named(self, *names: str) -> list[str]:
        """Those names with this source's ending."""
        return [f"{name}{self}" for name in names]


S = TypeVar("S", bound=Source)


def sources_of(model: Any, kind: type[S]) -> list[S]:
    """A `kind` of Source for each of the model's --sources, or for the one that need not be named. A single source's
    names have no ending, so that they are the toolkit's."""
    modalities = model.opt.sources.split(",") if model.opt.sources else [""]
    return [kind(model, m, f"_{m}" if len(modalities) > 1 else "") for m in modalities]


class Pair(Source):
    """A source (images y) and the target (images x), translated into each other.

    The discriminator of target images, D_t, is not here: all pairs share it, as they share x.
    """

    # Networks, and stores of past translations for the discriminators.
    G = Published("netG_A")                 # source -> target
    F = Published("netG_B")                 # target -> source
    D_s = Published("netD_B")               # judges source images
    fake_y_pool = Published("fake_A_pool")
    fake_x_pool = Published("fake_B_pool")

    # The step at hand: source images are (N, input_nc, H, W), target images (N, output_nc, H, W).
    r_y = Published("label_A")              # (N,), or None where the data set knows no labels
    fake_x = Published("fake_B")            # G(y)
    rec_y = Published("rec_A")              # F(G(y))
    fake_y = Published("fake_A")            # F(x)
    rec_x = Published("rec_B")              # G(F(x))
    idt_x = Published("idt_A")              # G(x)
    idt_y = Published("idt_B")              # F(y)

    loss_G = Published("loss_G_A")          # how far G(y) is from passing for a target image
    loss_F = Published("loss_G_B")
    loss_cycle_y = Published("loss_cycle_A")
    loss_cycle_x = Published("loss_cycle_B")
    loss_idt_x = Published("loss_idt_A")
    loss_idt_y = Published("loss_idt_B")
    loss_D_s = Published("loss_D_B")

    @property
    def x(self) -> torch.Tensor:
        """The target's images."""
        return self.model.real_B

    def translate(self) -> None:
        """From the source and back again."""
        self.fake_x = self.G(self.y)                                    # (N, output_nc, H, W)
        self.rec_y = self.F(self.fake_x)                                # (N, input_nc, H, W)

    def recover_y(self) -> None:
        if self._is_there("fake_B"):
            self.rec_y = self.F(self.fake_x)
        else:
            self.translate()

    def translate_back(self) -> None:
        """From the target and back again."""
        self.fake_y = self.F(self.x)                                    # (N, input_nc, H, W)
        self.rec_x = self.G(self.fake_y)                                # (N, output_nc, H, W)

    def recover_x(self) -> None:
        if self._is_there("fake_A"):
            self.rec_x = self.G(self.fake_y)
        else:
            self.translate_back()

    def _is_there(self, name: str) -> bool:
        return f"{name}{self.ending}" in vars(self.model)

    # -- images that wait until they are asked for -------------------------------------------------------------

    def passes(self) -> dict[str, Callable[[], None]]:
        """{a translation's name on the model: the method that makes it}. With a fake its recovery is made too, before a
        plug-in can change the fake; a recovery alone, of the fake that a plug-in made."""
        makers = self.translate, self.recover_y, self.translate_back, self.recover_x
        return dict(zip(self.named("fake_B", "rec_A", "fake_A", "rec_B"), makers, strict=True))

    def forget(self) -> None:
        """Drops the translations of the batch before, and the graphs that they hold."""
        for name in self.passes():
            vars(self.model).pop(name, None)
