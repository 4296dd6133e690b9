import os
import random

import numpy as np
import pytest
import torch
from torch import nn

from duiit.util import checkpoint
from duiit.util.errors import UserError


def small(width=2):
    return nn.Sequential(nn.Conv2d(1, width, 3), nn.InstanceNorm2d(width), nn.Conv2d(width, 1, 1))


def test_weights_go_there_and_back(tmp_path):
    net, other = small(), small()
    checkpoint.save(net.state_dict(), tmp_path / "net.pth")
    checkpoint.load_weights(other, tmp_path / "net.pth")
    assert all(torch.equal(other.state_dict()[k], v) for k, v in net.state_dict().items())
    assert [p.name for p in tmp_path.iterdir()] == ["net.pth"]


def test_keys_of_a_parallel_wrapper_are_taken(tmp_path):
    net, other = small(), small()
    checkpoint.save({f"module.{k}": v for k, v in net.state_dict().items()}, tmp_path / "net.pth")
    checkpoint.load_weights(other, tmp_path / "net.pth")
    assert torch.equal(other[0].weight, net[0].weight)


def test_statistics_of_instance_norms_in_old_checkpoints_are_dropped(tmp_path):
    net, other = small(), small()
    old = {**net.state_dict(), "1.running_mean": torch.ones(2), "1.running_var": torch.ones(2),
           "1.num_batches_tracked": torch.tensor(7)}
    checkpoint.save(old, tmp_path / "old.pth")
    checkpoint.load_weights(other, tmp_path / "old.pth")
    assert torch.equal(other[0].weight, net[0].weight)


def test_statistics_of_batch_norms_are_needed(tmp_path):
    net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2))
    state = net.state_dict()
    del state["1.running_mean"]
    checkpoint.save(state, tmp_path / "net.pth")
    with pytest.raises(UserError, match="1.running_mean is missing"):
        checkpoint.load_weights(net, tmp_path / "net.pth")


@pytest.mark.parametrize("change, message", [
    (lambda s: s.pop("0.bias"), "0.bias is missing"),
    (lambda s: s.update(extra=torch.ones(1)), "extra is unknown"),
    (lambda s: s.update({"0.weight": torch.ones(3, 1, 3, 3)}), r"0.weight is \(3, 1, 3, 3\) instead of \(2, 1, 3, 3\)"),
])
def test_what_does_not_fit_is_named_with_the_file(tmp_path, change, message):
    state = dict(small().state_dict())
    change(state)
    checkpoint.save(state, tmp_path / "net.pth")
    with pytest.raises(UserError, match=f"net.pth: a checkpoint of another architecture: {message}"):
        checkpoint.load_weights(small(), tmp_path / "net.pth")


class Malicious:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (self.path,)


@pytest.mark.parametrize("zipped", [True, False])
def test_code_in_a_checkpoint_is_not_run(tmp_path, zipped):
    content = {"weight": Malicious(str(tmp_path / "harm"))}
    torch.save(content, tmp_path / "bad.pth", _use_new_zipfile_serialization=zipped)
    with pytest.raises(UserError, match="bad.pth: not readable as a checkpoint"):
        checkpoint.load(tmp_path / "bad.pth")
    assert not (tmp_path / "harm").exists()


@pytest.mark.parametrize("content", [b"", b"nonsense", b"PK\x03\x04 cut off"])
def test_damaged_files_are_named_in_one_line(tmp_path, content):
    (tmp_path / "bad.pth").write_bytes(content)
    with pytest.raises(UserError, match="bad.pth: not readable as a checkpoint") as caught:
        checkpoint.load(tmp_path / "bad.pth")
    assert "\n" not in str(caught.value)


def test_missing_files_and_other_contents_are_named(tmp_path):
    with pytest.raises(UserError, match="none.pth: no such file"):
        checkpoint.load(tmp_path / "none.pth")
    checkpoint.save({"epoch": 3}, tmp_path / "state.pth")
    with pytest.raises(UserError, match="state.pth: holds no state dict"):
        checkpoint.load_weights(small(), tmp_path / "state.pth")


def draws():
    return random.random(), float(np.random.rand()), float(torch.rand(1)), float(np.random.randn())    # noqa: NPY002


def test_random_generators_go_on_where_they_were(tmp_path):
    checkpoint.seed_everything(4)
    draws()                                         # leaves numpy with a cached normal number
    checkpoint.save(checkpoint.random_state(), tmp_path / "random.pth")
    expected = draws()
    checkpoint.seed_everything(5)
    checkpoint.set_random_state(checkpoint.load(tmp_path / "random.pth"))
    assert draws() == expected


def test_seeding_repeats_all_generators():
    checkpoint.seed_everything(4)
    first = draws()
    checkpoint.seed_everything(4)
    assert draws() == first
