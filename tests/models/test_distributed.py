"""Two gloo processes on the CPU compute what one does with both their batches."""
import os
import socket
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from duiit.data import EpochSampler
from duiit.models import create_model
from duiit.models.networks import PredictionLoss
from duiit.util import checkpoint, distributed
from duiit.util.errors import UserError
from duiit.util.facts import Facts

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
SOME = torch.Generator().manual_seed(5)


def in_two(work, folder):
    """[what work() gives in each of two processes]. They are forked from this one."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    children = []
    for rank in range(2):
        child = os.fork()
        if not child:
            code = 1
            try:
                os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE="2", MASTER_ADDR="localhost",
                                  MASTER_PORT=str(port))
                with distributed.joined(SimpleNamespace(device="cpu", gpu_ids=[])):
                    torch.save(work(), folder / f"{rank}.pth")
                code = 0
            except SystemExit as stop:
                code = stop.code
            finally:
                os._exit(code)
        children.append(child)
    codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    return [torch.load(folder / f"{rank}.pth") if code == 0 else code for rank, code in enumerate(codes)]


# ---- one step of two ranks is one step of one rank with both batches ------------------------------------------------

BATCH = {"A": torch.rand(4, 1, 32, 32, generator=SOME) * 2 - 1, "B": torch.rand(4, 1, 32, 32, generator=SOME) * 2 - 1,
         "A_label": torch.tensor([60.0, float("nan"), 70.0, 75.0]), "B_label": torch.tensor([30.0, 45.0, 20.0, 50.0]),
         "A_paths": list("abcd"), "B_paths": list("efgh")}


def gradients(opt, ranks, dtype):
    """Every parameter's gradient after one step on this process's share of BATCH, and running statistics."""
    checkpoint.seed_everything(0)
    torch.set_default_dtype(dtype)
    model = create_model(opt)
    model.setup(opt)
    size = 4 // ranks
    mine = slice(distributed.rank() * size, (distributed.rank() + 1) * size)
    model.set_input({k: v[mine].to(dtype) if isinstance(v, torch.Tensor) else v[mine] for k, v in BATCH.items()})
    model.optimize_parameters()
    # Adam's first average is (1 - beta1) times the gradient that it was given.
    states = [o.state_dict()["state"] for o in model.optimizers]
    found = {f"{i}.{k}": v["exp_avg"] for i, state in enumerate(states) for k, v in state.items()}
    running = {k: v for n in model.model_names for k, v in model.net(n).state_dict().items() if "running" in k}
    torch.set_default_dtype(torch.float32)
    return found, running


# In double precision where it goes through the predictor: batch norm over four images of one pixel magnifies rounding.
@pytest.mark.slow
@pytest.mark.parametrize(("words", "dtype"), [
    ("--model cycle_gan --input_nc 1 --output_nc 1 --lambda_identity 0.5", torch.float32),
    ("--model duiit --lambda_pred 0", torch.float32),
    ("--model duiit --lambda_pred 0.01", torch.float64),
    ("--model duiit --lambda_pred 0.01 --guidance real", torch.float64),
    ("--model predictor", torch.float64)])
def test_a_step_of_two_is_a_step_of_one_with_both_batches(options, tmp_path, words, dtype):
    opt = options(f"{words} --batch_size 4", sources="mri",
                  facts=Facts(labels_known=3, label_mean=40.0, label_std=12.0))
    alone, statistics = gradients(opt, 1, dtype)
    for found, running in in_two(lambda: gradients(opt, 2, dtype), tmp_path):
        assert found.keys() == alone.keys()
        for key, gradient in alone.items():
            scale = max(v.abs().max() for k, v in alone.items() if k[0] == key[0])
            assert (found[key] - gradient).abs().max() <= 1e-5 * scale, key
        for key, value in statistics.items():
            torch.testing.assert_close(running[key], value, rtol=1e-5, atol=1e-5)


def batch_norm_step(net, images):
    net.train()
    out = net(images)
    (out * torch.arange(out.numel(), dtype=out.dtype).reshape(out.shape)[:1].sin()).square().mean().backward()
    return [*(p.grad for p in net.parameters()), net[1].running_mean, net[1].running_var]


def test_batch_norm_is_over_all_processes(tmp_path):
    images = torch.rand(4, 2, 5, 5, dtype=torch.float64, generator=SOME) * 3 + 1
    net = nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3)).double()
    state = {key: value.clone() for key, value in net.state_dict().items()}

    def share():
        distributed.synchronise(net)
        found = batch_norm_step(net, images[2 * distributed.rank():][:2])
        distributed.average(found[:4])
        return found
    both = in_two(share, tmp_path)
    net.load_state_dict(state)
    alone = batch_norm_step(net, images)
    for found in both:
        for mine, expected in zip(found, alone, strict=True):
            torch.testing.assert_close(mine, expected)


def test_the_prediction_loss_is_the_mean_over_all_labelled(tmp_path):
    answers, labels = torch.tensor([1.0, 2.0, 3.0, 4.0]), torch.tensor([0.0, 0.0, float("nan"), 0.0])

    def share():
        mine = slice(2 * distributed.rank(), 2 * distributed.rank() + 2)
        return PredictionLoss("regression")(answers[mine], labels[mine])
    assert torch.stack(in_two(share, tmp_path)).mean() == pytest.approx(21 / 3)


# ---- words between the processes ------------------------------------------------------------------------------------

def test_what_is_agreed_gathered_and_told(tmp_path):
    def talk():
        mine = distributed.rank()
        return {"agree": distributed.agree(mine == 1, 7 - mine), "gather": distributed.gather(f"r{mine}"),
                "mean": distributed.mean({"x": float(mine)}), "main": distributed.from_main(lambda: f"of {mine}")}
    expected = {"agree": [1, 7], "gather": ["r0", "r1"], "mean": {"x": 0.5}, "main": "of 0"}
    assert in_two(talk, tmp_path) == [expected, expected]


def test_a_refusal_by_the_first_ends_all(tmp_path):
    def refuse():
        raise UserError("no")

    def talk():
        try:
            distributed.from_main(refuse)
        except UserError:
            raise SystemExit(5) from None
    assert in_two(talk, tmp_path) == [5, 2]


def test_alone_nothing_is_sent():
    assert (distributed.ranks(), distributed.is_main()) == (1, True)
    assert distributed.agree(True, 3) == [1, 3]
    assert distributed.gather("x") == ["x"]
    assert distributed.from_main(lambda: 4) == 4
    net = nn.Sequential(nn.BatchNorm2d(1))
    distributed.synchronise(net)
    assert type(net[0]) is nn.BatchNorm2d


# ---- the data -------------------------------------------------------------------------------------------------------

def test_processes_divide_each_batch():
    def order(share, skip=0):
        sampler = EpochSampler(11, True, 3, share=share)
        sampler.epoch, sampler.skip = 2, skip
        return list(sampler)
    whole = order(None)
    for skip in (0, 4):
        first, second = (order((4, rank, 2), skip) for rank in range(2))
        together = [index for i in range(0, len(first), 2) for index in first[i:i + 2] + second[i:i + 2]]
        assert together == whole[skip:8]
