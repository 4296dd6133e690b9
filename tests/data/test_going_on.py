"""A loader that goes on in the middle of an epoch serves the same batches, also of data sets that draw globally."""
import random
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from duiit.data import CustomDatasetDataLoader
from duiit.util.facts import Facts


class Drawing(torch.utils.data.Dataset):
    """As data sets of the toolkit augment: by the global generators."""

    def __len__(self):
        return 8

    def __getitem__(self, index):
        drawn = [random.random(), float(np.random.rand()), float(torch.rand(1))]        # noqa: NPY002
        return {"index": index, "drawn": torch.tensor(drawn)}


@pytest.mark.parametrize("workers", [1, 2])
def test_items_of_loader_processes_follow_from_seed_epoch_and_index(workers):
    def batches(epoch, skip=0, seed=3):
        opt = SimpleNamespace(batch_size=2, num_threads=workers, max_dataset_size=float("inf"), steps_per_epoch=0,
                              isTrain=True, serial_batches=False, seed=seed, device="cpu",
                              facts=Facts())
        loader = CustomDatasetDataLoader(Drawing(), opt)
        loader.set_epoch(epoch, skip)
        return [torch.cat([b["index"][:, None], b["drawn"]], 1) for b in loader]
    whole = batches(1)
    assert all(torch.equal(one, other) for one, other in zip(batches(1, skip=2), whole[2:], strict=True))
    assert not torch.equal(torch.cat(batches(2)).sort(0)[0], torch.cat(whole).sort(0)[0])
    assert len(torch.cat(whole)[:, 1].unique()) == 8
