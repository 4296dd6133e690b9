"""A store of past fakes: a discriminator also sees what the generator made some steps ago (Shrivastava et al. 2017)."""
import random
from collections.abc import Mapping
from typing import Any

import torch


class ImagePool:
    """`query` hands images through until `pool_size` are stored; from then on, with probability one half, an image is
    kept and a random older one is handed out in its place.

    Draws come from Python's global `random`, so seeding that makes a run repeatable; with `seed` the pool has a
    generator of its own, independent of how many draws others make.
    """

    def __init__(self, pool_size: int, seed: int | None = None) -> None:
        self.pool_size = pool_size
        self.images: list[torch.Tensor] = []  # each (1, C, H, W)
        self._own = None if seed is None else random.Random(seed)

    def query(self, images: torch.Tensor) -> torch.Tensor:
        """(N, C, H, W) -> (N, C, H, W), cut off from the graph; with pool_size 0 the very same tensor."""
        if self.pool_size == 0:
            return images
        return torch.cat([self._swap(image) for image in images.detach().split(1)], 0)

    def _swap(self, image: torch.Tensor) -> torch.Tensor:
        if len(self.images) < self.pool_size:
            self._store(len(self.images), image)
            return image
        draw = self._own or random
        if draw.uniform(0, 1) <= 0.5:
            return image
        chosen = draw.randint(0, self.pool_size - 1)
        older = self.images[chosen].to(image.device)
        self._store(chosen, image)
        return older

    def _store(self, place: int, image: torch.Tensor) -> None:
        # A copy: a view would keep its whole batch in memory, and in the file when the pool is saved.
        self.images[place:place + 1] = [image.clone()]

    # ---- for a training state ---------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """The stored images, on the CPU, and the state of the pool's own generator (None when it draws globally)."""
        return {"images": [image.cpu() for image in self.images], "rng": self._own.getstate() if self._own else None}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where `state` was taken. More images than this pool may hold: the first ones are kept."""
        self.images = list(state["images"])[:self.pool_size]
        if self._own and state["rng"] is not None:
            version, numbers, gauss = state["rng"]
            self._own.setstate((version, tuple(numbers), gauss))
