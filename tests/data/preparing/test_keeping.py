"""Where the pixels of a training are served from changes nothing of what is served."""
import numpy as np
import pytest
import torch

from duiit.data import create_dataset
from duiit.data.preparing import keeping
from duiit.util.errors import UserError


def served(loader):
    loader.set_epoch(2)
    return list(loader)


def same(a, b):
    return all(x.keys() == y.keys() and all(torch.equal(x[k], y[k]) if isinstance(x[k], torch.Tensor) else x[k] == y[k]
                                            for k in x if not k.endswith("_label"))
               for x, y in zip(a, b, strict=True))


WORDS = ["--model duiit", "--model predictor --augment simple", "--model predictor --preprocess none --batch_size 1",
         "--model duiit --crop_size 20 --load_size 20 --input_nc 3",
         "--model predictor --preprocess crop --crop_size 30"]


@pytest.mark.parametrize("words", WORDS)
def test_batches_are_the_same_from_disk_and_from_memory(options, modalities, words):
    disk = create_dataset(options(f"{words} --cache disk"))
    ram = create_dataset(options(f"{words} --cache ram"))
    assert same(served(disk), served(ram))
    assert all(m.pixels is None for m in disk.dataset.members.values())
    assert all(isinstance(m.pixels, np.ndarray) and not isinstance(m.pixels.base, np.memmap)
               for m in ram.dataset.members.values())


@pytest.mark.parametrize("words", WORDS)
def test_batches_are_the_same_where_tensors_are_cropped_and_flipped(options, modalities, words):
    """What a GPU does with the images that it keeps, on the device there is."""
    disk, kept = (create_dataset(options(words)) for _ in range(2))
    for member in kept.dataset.members.values():
        member.pixels = keeping.on_device(member.cohort, "cpu")
    assert same(served(disk), served(kept))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
@pytest.mark.parametrize("words", [w for w in WORDS if "augment" not in w])
def test_batches_are_the_same_from_a_gpu(options, modalities, words):
    loaders = [create_dataset(options(f"{words} --device cuda --gpu_ids 0 --cache {c}")) for c in ("gpu", "disk")]
    on_gpu, from_disk = map(served, loaders)
    assert on_gpu[0]["B"].is_cuda and from_disk[0]["B"].is_cuda and same(on_gpu, from_disk)
    assert all(m.pixels.is_cuda for m in loaders[0].dataset.members.values())


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
@pytest.mark.parametrize("kind", ["simple", "random_erasing", "autoaugment"])
def test_a_gpu_augments_as_a_cpu_does(options, modalities, kind):
    words = f"--model predictor --augment {kind}"
    there = served(create_dataset(options(f"{words} --device cuda --gpu_ids 0")))
    here = served(create_dataset(options(words)))
    for a, b in zip(there, here, strict=True):
        assert a["B"].is_cuda and (a["B"].cpu() - b["B"]).abs().mean() < 1e-3


def test_auto_takes_a_gpu_where_a_third_of_it_is_enough(options, modalities, monkeypatch):
    cohorts = [m.cohort for m in create_dataset(options("--model duiit")).dataset.members.values()]
    size = sum(c.pixels().nbytes for c in cohorts)
    monkeypatch.setattr(keeping, "on_device", lambda cohort, device: device)
    for free, kept in ((3 * size, ["cuda:0"] * 3), (3 * size - 1, [None] * 3)):
        monkeypatch.setattr(keeping, "_free", lambda device, free=free: free)
        assert keeping.keep_pixels(cohorts, "auto", "cuda:0") == kept
    assert keeping.keep_pixels(cohorts, "auto", "cpu") == [None] * 3


def test_what_does_not_fit_is_refused(options, modalities, monkeypatch):
    def full(cohort):
        raise MemoryError
    monkeypatch.setattr(keeping, "in_memory", full)
    with pytest.raises(UserError, match="--cache ram: there is no room for .* GiB of images; take --cache disk"):
        create_dataset(options("--model duiit --cache ram"))


def test_a_gpu_that_is_not_there_is_refused(options, modalities):
    with pytest.raises(UserError, match="--cache gpu: training is on cpu.*--cache ram"):
        options("--model duiit --cache gpu")
