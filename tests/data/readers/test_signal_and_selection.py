"""Which slices count: those that show something, and those that were asked for."""
import numpy as np
import pytest

from duiit.data.readers import has_signal, select_slices
from duiit.data.readers.slice import DISPLAY, HU
from duiit.util.errors import UserError


def head(background, tissue, side=64):
    rows, columns = np.mgrid[:side, :side] - side / 2
    return np.where(np.hypot(rows, columns) < side / 3, tissue, background).astype(np.float32)


def test_heads_show_something_in_any_unit():
    assert has_signal(head(0, 200)) and has_signal(head(-1000, 40), HU) and has_signal(head(0, 1e-4))
    assert has_signal(np.stack([np.zeros((64, 64)), head(0, 9), np.zeros((64, 64))]))


@pytest.mark.parametrize("value", [0, -1024, 1e20, 3.5])
def test_constant_images_do_not(value):
    assert not has_signal(np.full((8, 8), value, np.float32))
    assert not has_signal(np.full((3, 8, 8), value, np.float32))


def test_nearly_empty_images_do_not():
    speck = np.zeros((64, 64), np.float32)
    speck[3, 3:9] = 255
    assert not has_signal(speck)
    noise = np.random.default_rng(0).normal(-1000, 10, (64, 64)).astype(np.float32)
    assert not has_signal(noise, HU)
    assert not has_signal(np.random.default_rng(0).integers(0, 5, (64, 64)).astype(np.float32), DISPLAY)


def test_selections():
    slices = list(range(10))
    assert select_slices(slices, "all") == select_slices(slices, None) == slices
    assert select_slices(slices, "every:3") == [0, 3, 6, 9]
    assert select_slices(slices, "0.3-0.8") == [3, 4, 5, 6, 7]
    assert select_slices(slices, "0-0.5") + select_slices(slices, "0.5-1") == slices
    assert select_slices(slices, "0.41-0.42") == [4]
    assert select_slices([], "0.3-0.8") == [] and select_slices([1], "0.9-1.0") == [1]


@pytest.mark.parametrize("spec", ["0.8-0.3", "every:0", "some", "-1-2", "0.2-1.2", "1-5", "every:"])
def test_other_selections_are_refused_by_name(spec):
    with pytest.raises(UserError, match="--slices"):
        select_slices([1, 2, 3], spec)
