"""How a step is computed changes neither what is learned nor what is kept: precision, layout, accumulated batches."""
import copy

import pytest
import torch

from duiit.models import acceleration, create_model
from duiit.models.base_model import BaseModel
from duiit.options import TrainOptions
from duiit.util import checkpoint
from duiit.util.errors import UserError

DUIIT = "--model duiit --netP resnet10_small --sources mri --lambda_pred 0.1 --pool_size 0 --lr 0.0002 --lr_P 0.0002"
WAYS = ["--channels_last on", "--amp bf16", "--amp fp16", "--amp bf16 --channels_last on"]
CUDA = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")


def batch(n=4, size=32, seed=0):
    made = torch.Generator().manual_seed(seed)
    a, b = (torch.rand(n, 1, size, size, generator=made) * 2 - 1 for _ in range(2))
    return {"A": a, "B": b, "A_label": torch.linspace(40, 80, n), "B_label": torch.linspace(30, 60, n),
            "A_paths": ["a"] * n, "B_paths": ["b"] * n}


@pytest.fixture
def built(make):
    """built("--model … --amp fp16"): the model. On a CPU, where the command line refuses float16, too."""
    def build(words):
        half = {"amp": "fp16"} if "--amp fp16" in words else {}
        return make(words.replace("--amp fp16", ""), **half)[0]
    return build


def step(model, *batches):
    for n, given in enumerate(batches):
        with model.acceleration.step(completes=n == len(batches) - 1):
            model.set_input(given)
            model.optimize_parameters()


def gradients(model):
    """{network: the gradient of its last step, as one vector}."""
    return {name: torch.cat([p.grad.flatten() for p in model.net(name).parameters()]) for name in model.model_names}


def weights(model):
    return {name: {k: v.clone() for k, v in model.net(name).state_dict().items()} for name in model.model_names}


def assert_close(found, expected, relative):
    for name, vector in expected.items():
        off = float((found[name] - vector).norm() / vector.norm())
        assert off < relative, f"{name}: off by {off:.2g}"


# ---- what is computed -----------------------------------------------------------------------------------------------

@pytest.mark.parametrize(("way", "relative"), [
    ("--channels_last on", 0.01), ("--amp bf16", 0.5), ("--amp fp16", 0.3), ("--amp bf16 --channels_last on", 0.5),
    pytest.param("--compile on", 0.01, marks=pytest.mark.slow)])
def test_gradients_of_a_step_are_those_of_the_plain_way(built, way, relative):
    if "compile" in way and acceleration._no_compiler(on_gpu=False):
        pytest.skip("there is no C++ compiler")
    plain, quick = built(f"{DUIIT} --amp off"), built(f"{DUIIT} {way}")
    for model in (plain, quick):
        step(model, batch())
    assert_close(gradients(quick), gradients(plain), relative)
    for name, loss in plain.get_current_losses().items():
        assert quick.get_current_losses()[name] == pytest.approx(loss, rel=relative / 3, abs=1e-3)
    for name, norm in plain.get_current_norms().items():
        assert quick.get_current_norms()[name] == pytest.approx(norm, rel=relative / 3)


def test_without_a_choice_a_cpu_computes_bit_for_bit_in_the_plain_way(built):
    chosen, plain = built(DUIIT), built(f"{DUIIT} --amp off --compile off --channels_last off")
    for model in (chosen, plain):
        step(model, batch())
        step(model, batch(seed=1))
    assert type(chosen.netG_A) is type(plain.netG_A)
    for name, found in weights(chosen).items():
        assert all(torch.equal(value, weights(plain)[name][key]) for key, value in found.items())


@pytest.mark.parametrize("way", WAYS)
def test_answers_losses_and_weights_are_float32(built, way):
    model = built(f"{DUIIT} {way}")
    step(model, batch())
    made = model.fake_B, model.netP(model.real_B), model.loss_G, model.loss_P_real
    assert {v.dtype for v in made} == {torch.float32}
    assert {p.dtype for n in model.model_names for p in model.net(n).parameters()} == {torch.float32}


@pytest.mark.parametrize("way", WAYS)
def test_without_gradients_networks_answer_in_float32_as_they_will_when_used(built, way):
    model, same = built(f"{DUIIT} {way}"), built(f"{DUIIT} --amp off")
    model.eval(), same.eval()
    images = batch()["B"]
    with torch.no_grad():
        assert torch.allclose(model.netP(images), same.netP(images), rtol=1e-6, atol=1e-4)
        assert torch.allclose(model.netG_A(images), same.netG_A(images), atol=1e-5)


def test_a_years_answer_has_no_steps_while_it_learns(built):
    model = built(f"{DUIIT} --amp bf16")
    with torch.no_grad():
        model.netP.label_mean.fill_(60.0), model.netP.label_std.fill_(15.0)
    answers = model.netP(batch(n=8)["B"]).detach()
    assert not torch.equal(answers, answers.bfloat16().float())


def test_keys_and_types_of_networks_stay_and_copies_are_their_own(built):
    model, plain = built(f"{DUIIT} --amp bf16"), built(f"{DUIIT} --amp off")
    for name in model.model_names:
        assert list(model.net(name).state_dict()) == list(plain.net(name).state_dict())
        assert isinstance(model.net(name), type(plain.net(name)))
    images = batch()["A"]
    other = copy.deepcopy(model.netG_A)
    before = other(images).detach()
    with torch.no_grad():
        next(iter(model.netG_A.parameters())).add_(1.0)
    assert torch.equal(other(images).detach(), before)


def test_several_sources(built):
    words = "--model cycle_gan --dataset_mode cross_modality --sources mri,pet --input_nc 1 --output_nc 1 --pool_size 0"
    plain, quick = built(f"{words} --amp off"), built(f"{words} --channels_last on --accumulate 2 --ema 0.9")
    given, other = batch(), batch(seed=1)
    several = {**{k: v for k, v in given.items() if k.startswith("B")},
               **{f"A_{m}{k[1:]}": v for m, made in (("mri", given), ("pet", other)) for k, v in made.items()
                  if k.startswith("A")}}
    step(plain, several)
    step(quick, several, several)
    assert_close(gradients(quick), gradients(plain), 0.01)
    assert set(quick.averages.weights()) == {"G_A_mri", "G_A_pet", "G_B_mri", "G_B_pet"}


class PlugIn(BaseModel):
    """As somebody writes it who knows nothing of all this."""

    def __init__(self, opt):
        super().__init__(opt)
        self.loss_names, self.model_names, self.visual_names = ["main"], ["G"], ["fake"]
        self.netG = torch.nn.Conv2d(1, 1, 3, padding=1)
        self.optimizers.append(torch.optim.SGD(self.netG.parameters(), lr=0.1))

    def set_input(self, input):             # noqa: A002
        self.real = input["A"].to(self.device)

    def forward(self):
        self.fake = self.netG(self.real)

    def optimize_parameters(self):
        self.forward()
        self.loss_main = (self.fake - 1).square().mean()
        self.optimizers[0].zero_grad()
        self.loss_main.backward()
        self.optimizers[0].step()


@pytest.mark.parametrize("way", [*WAYS, "--accumulate 2 --clip_grad 5 --ema 0.5"])
def test_a_plug_in_learns_in_each_way(options, way):
    half = {"amp": "fp16"} if "--amp fp16" in way else {}
    opt = options(f"--model cycle_gan {way.replace('--amp fp16', '')}", **half)
    found = []
    for chosen in (opt, options("--model cycle_gan --amp off")):
        torch.manual_seed(0)
        model = PlugIn(chosen)
        model.setup(chosen)
        for seed in range(4):
            step(model, *[batch(seed=seed)] * chosen.accumulate)
        found.append(torch.cat([p.detach().flatten() for p in model.netG.parameters()]))
    assert torch.allclose(*found, rtol=0.02, atol=5e-3)


# ---- float16 --------------------------------------------------------------------------------------------------------

def test_float16_leaves_a_step_out_that_ran_over_and_lowers_its_scale(built):
    model = built(f"{DUIIT} --amp fp16")
    step(model, batch())
    before, scale = weights(model), model.acceleration.scaler.get_scale()
    bad = batch()
    bad["A_label"] = torch.full((4,), 3e19)                     # squared: beyond float32
    with model.acceleration.step():
        model.set_input(bad)
        model.optimize_parameters()
    after = weights(model)
    for name in ("G_A", "P"):
        assert all(torch.equal(after[name][k], v) for k, v in before[name].items() if "running" not in k
                   and "num_batches" not in k), name
    assert not all(torch.equal(after["D_A"][k], v) for k, v in before["D_A"].items())
    assert model.acceleration.scaler.get_scale() == scale / 2
    assert "norm_G" not in model.get_current_norms()            # there was no step to have a length


# ---- more than one batch a step, shorter gradients ------------------------------------------------------------------

def test_two_batches_a_step_are_one_of_twice_the_size(built):
    """For networks that look at each image alone, as CycleGAN's do."""
    words = "--model cycle_gan --dataset_mode cross_modality --sources mri --input_nc 1 --output_nc 1 --pool_size 0"
    whole, parts = built(words), built(f"{words} --accumulate 2")
    given = batch(n=4)
    step(whole, given)
    step(parts, *({k: v[part] for k, v in given.items()} for part in (slice(0, 2), slice(2, 4))))
    assert_close(gradients(parts), gradients(whole), 1e-4)
    assert parts.get_current_norms() == pytest.approx(whole.get_current_norms(), rel=1e-4)
    # Biases before an instance norm have no gradient but rounding's, which Adam makes steps of.
    assert_close(*({n: torch.cat([v.flatten() for v in w.values() if v.ndim > 1]) for n, w in weights(model).items()}
                   for model in (parts, whole)), 1e-3)


def test_nothing_moves_before_a_step_is_complete_however_a_plug_in_clears_its_gradients(built):
    model = built("--model cycle_gan --dataset_mode cross_modality --accumulate 3")
    weight = torch.nn.Parameter(torch.zeros(1))
    plug_ins = torch.optim.SGD([weight], lr=1.0)
    model.acceleration.prepare_optimizer(plug_ins)
    for n in range(6):
        with model.acceleration.step(completes=n % 3 == 2):
            (weight * (n + 1)).backward()
            plug_ins.step()
            plug_ins.zero_grad()                # after the step, as some write it
        assert float(weight.detach()) == (0 if n < 2 else -(1 + 2 + 3) if n < 5 else -(1 + 2 + 3 + 4 + 5 + 6))


@pytest.mark.parametrize("way", ["", "--amp fp16"])
def test_a_long_gradient_is_shortened(built, way):
    model, free = built(f"{DUIIT} {way} --clip_grad 0.01"), built(f"{DUIIT} {way}")
    for each in (model, free):
        step(each, batch())
    length = torch.cat([gradients(model)[n] for n in ("G_A", "G_B")]).norm()
    assert float(length) == pytest.approx(0.01, rel=1e-3)
    assert model.get_current_norms()["norm_G"] == pytest.approx(free.get_current_norms()["norm_G"], rel=1e-3)


# ---- averaged generators --------------------------------------------------------------------------------------------

def test_averaged_generators_follow_the_weights_and_are_used_where_asked(built, options):
    model = built(f"{DUIIT} --ema 0.75")
    seen = []
    for n in range(3):
        step(model, batch(seed=n))
        model.averages.update()
        seen.append(weights(model)["G_A"])
    expected = {k: seen[0][k] for k in seen[0]}
    for found in seen[1:]:
        expected = {k: 0.75 * expected[k] + 0.25 * found[k] for k in found}
    model.save_networks("latest")
    opt = options(f"{DUIIT} --ema 0.75", isTrain=False, epoch="latest", averaged=True)
    other = create_model(opt)
    other.setup(opt)
    for key, value in other.netG_A.state_dict().items():
        assert torch.allclose(value, expected[key], atol=1e-6), key
    assert torch.equal(other.netP.head.weight, model.netP.head.weight)


def test_a_run_without_averages_says_so(built, options):
    built(DUIIT).save_networks("latest")
    opt = options(DUIIT, isTrain=False, epoch="latest", averaged=True)
    with pytest.raises(UserError, match="--averaged: .*averaged_G_A.pth.*--ema"):
        create_model(opt).setup(opt)


# ---- going on, and what auto means ----------------------------------------------------------------------------------

@pytest.mark.slow
@pytest.mark.parametrize("way", [["--amp", "bf16", "--channels_last", "on", "--ema", 0.9, "--accumulate", 2,
                                  "--clip_grad", 1],
                                 pytest.param(["--amp", "fp16", "--device", "cuda"], marks=CUDA)])
def test_a_run_that_was_stopped_goes_on_exactly(duiit, phantom, tiny, tmp_path, way):
    words = ["train", "--dataroot", phantom, "--preset", tiny, "--sources", "mri", "--checkpoints_dir", tmp_path,
             "--n_epochs", 4, "--steps_per_epoch", 5, *way]
    assert duiit(*words, "--name", "whole", "--max_steps", 8) == 0
    assert duiit(*words, "--name", "parts", "--max_steps", 3) == 0
    assert duiit("train", "--name", "parts", "--checkpoints_dir", tmp_path, "--continue_train", "--max_steps", 8) == 0
    names = [p.name for p in (tmp_path / "whole").glob("latest_net_*.pth")]
    assert len(names) == (7 if "--ema" in way else 5)
    for name in (*names, "loss_log.csv"):
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "parts" / name).read_bytes(), name
    if "--ema" in way:
        averaged, last = (checkpoint.load(tmp_path / "whole" / f"latest_net_{n}G_A.pth") for n in ("averaged_", ""))
        assert any(not torch.equal(averaged[k], last[k]) for k in last)
        images = [duiit("translate", "--name", "whole", "--checkpoints_dir", tmp_path, "--input", phantom / "mri",
                        "--output", tmp_path / f"out{n}", *more) for n, more in enumerate(([], ["--averaged"]))]
        assert images == [0, 0]
        one, other = ({p.relative_to(folder): p.read_bytes() for p in folder.rglob("*.png")}
                      for folder in (tmp_path / "out0", tmp_path / "out1"))
        assert one.keys() == other.keys()
        assert one != other


@pytest.mark.parametrize(("asked", "chosen"), [("auto", "off"), ("bf16", "bf16"), ("off", "off")])
def test_auto_on_a_cpu_is_float32_and_the_run_keeps_the_choice(tmp_path, asked, chosen):
    opt = TrainOptions().parse(["--dataroot", str(tmp_path), "--device", "cpu", "--amp", asked])
    assert (opt.amp, opt.compile, opt.channels_last) == (chosen, "off", "off")


def test_float16_is_refused_on_a_cpu(tmp_path):
    with pytest.raises(UserError, match="--amp fp16: .*--amp off"):
        TrainOptions().parse(["--dataroot", str(tmp_path), "--device", "cpu", "--amp", "fp16"])


def test_compiling_without_a_compiler_is_left_out_with_a_word(monkeypatch, tmp_path, caplog):
    monkeypatch.setenv("PATH", str(tmp_path))
    opt = TrainOptions().parse(["--dataroot", str(tmp_path), "--device", "cpu", "--compile", "on"])
    assert opt.compile == "off"
    assert "--compile on: there is no C++ compiler" in caplog.text


@CUDA
def test_auto_on_a_gpu_takes_half_precision(tmp_path):
    opt = TrainOptions().parse(["--dataroot", str(tmp_path), "--device", "cuda"])
    assert opt.amp in ("bf16", "fp16")
    assert opt.channels_last == "on"
