"""Images come out as upstream's plug-ins expect them, whatever the number of channels."""
import logging

import numpy as np
import pytest
import torch
from PIL import Image

from duiit.util import util


@pytest.mark.parametrize("shape", [(2, 1, 4, 6), (1, 2, 4, 6), (1, 3, 4, 6), (1, 5, 4, 6), (1, 4, 6), (4, 6)])
def test_any_number_of_channels_becomes_rgb(shape):
    assert util.tensor2im(torch.zeros(shape)).shape == (4, 6, 3)


def test_range_is_mapped_rounded_and_clipped():
    image = util.tensor2im(torch.tensor([-1.0, 0.0, 1.0, 1.2, -3.0, float("nan")]).view(1, 1, 1, 6))
    assert image.dtype == np.uint8
    assert image[0, :, 0].tolist() == [0, 128, 255, 255, 0, 0]


def test_first_of_the_batch_and_no_gradient_needed():
    batch = torch.stack([torch.ones(3, 2, 2), -torch.ones(3, 2, 2)]).requires_grad_()
    assert (util.tensor2im(batch) == 255).all()
    assert util.tensor2im(batch.bfloat16(), imtype=np.float32).dtype == np.float32


def test_two_equal_channels_look_gray():
    gray = util.tensor2im(torch.full((1, 2, 2, 2), 0.5))
    assert (gray == gray[..., :1]).all()


def test_a_wrong_shape_is_named():
    with pytest.raises(ValueError, match=r"\(1, 1, 4, 4, 4\)"):
        util.tensor2im(torch.zeros(1, 1, 4, 4, 4))


@pytest.mark.parametrize(("aspect", "size"), [(1.0, (6, 4)), (2.0, (12, 4)), (0.5, (6, 8))])
def test_save_image_makes_folders_and_keeps_the_aspect(tmp_path, aspect, size):
    path = tmp_path / "sub ä" / "x.png"
    util.save_image(np.zeros((4, 6, 3), np.uint8), path, aspect)
    assert Image.open(path).size == size
    assert len(list(path.parent.iterdir())) == 1


def test_small_helpers(tmp_path, caplog):
    util.mkdirs([str(tmp_path / "a" / "b"), tmp_path / "c"])
    util.mkdirs(str(tmp_path / "d"))
    assert all((tmp_path / name).is_dir() for name in ("a/b", "c", "d"))
    assert [util.str2bool(text) for text in ("Yes", "0", True)] == [True, False, True]
    with pytest.raises(ValueError, match="maybe"):
        util.str2bool("maybe")
    net = torch.nn.Linear(2, 1)
    net(torch.ones(1, 2)).sum().backward()
    with caplog.at_level(logging.INFO, "duiit.util.util"):
        assert util.diagnose_network(net, "P") == pytest.approx(1.0)
        util.print_numpy(np.arange(3), shp=True)
    assert "P: mean absolute gradient 1" in caplog.text
    assert "max = 2.000" in caplog.text
