"""A run's life: discovery, weights and training states on disk, and the predictor model with classes."""
import gc
import weakref
from types import SimpleNamespace

import pytest
import torch

from duiit.data import create_dataset
from duiit.models import create_model, find_model_using_name, get_option_setter
from duiit.models.base_model import BaseModel
from duiit.options import TestOptions, run_file
from duiit.util import checkpoint
from duiit.util.errors import UserError
from duiit.util.facts import Facts

DUIIT = "--model duiit --sources mri --lambda_pred 0.1 --pool_size 3"


# ---- discovery ------------------------------------------------------------------------------------------------------

def test_models_are_found_by_name():
    assert find_model_using_name("cycle_gan").__name__ == "CycleGANModel"
    assert get_option_setter("duiit") is find_model_using_name("duiit").modify_commandline_options


@pytest.mark.parametrize("name", ["cycle_gam", "os", "networks", "../cycle_gan"])
def test_unknown_models_are_refused_with_those_there_are(name):
    with pytest.raises(UserError, match="--model .*cycle_gan, dann, duiit"):
        find_model_using_name(name)


def test_the_base_class_is_no_model():
    with pytest.raises(UserError, match="--model base"):
        find_model_using_name("base")


# ---- the toolkit's contract -----------------------------------------------------------------------------------------

class Minimal(BaseModel):
    """As a plug-in file writes it."""

    def __init__(self, opt):
        super().__init__(opt)
        self.loss_names, self.model_names, self.visual_names = ["main"], ["G"], ["fake"]
        self.netG = torch.nn.Conv2d(1, 1, 1)
        if self.isTrain:
            self.optimizers.append(torch.optim.SGD(self.netG.parameters(), lr=1.0))

    def set_input(self, input):             # noqa: A002
        self.real = input["A"]

    def forward(self):
        self.fake = self.netG(self.real)

    def optimize_parameters(self):
        self.forward()
        self.loss_main = self.fake.mean()
        self.optimizers[0].zero_grad()
        self.loss_main.backward()
        self.optimizers[0].step()


def test_a_plug_in_lives_through_a_run(options):
    opt = options("--model cycle_gan")
    model = Minimal(opt)
    model.setup(opt)
    model.set_input({"A": torch.ones(1, 1, 4, 4)})
    model.optimize_parameters()
    assert model.get_current_losses() == {"main": pytest.approx(float(model.loss_main.detach()))}
    assert list(model.get_current_visuals()) == ["fake"]
    model.save_networks("latest")
    model.test()
    assert not model.fake.requires_grad
    other = Minimal(opt)
    other.load_networks("latest")
    assert torch.equal(other.netG.weight, model.netG.weight)
    model.eval()
    assert not model.netG.training
    model.set_requires_grad(model.netG, False)
    assert not model.netG.weight.requires_grad


# ---- going on as if not stopped -------------------------------------------------------------------------------------

def everything(model):
    return {f"{n}.{k}": v.clone() for n in model.model_names for k, v in model.net(n).state_dict().items()}


@pytest.mark.slow
def test_a_run_goes_on_bit_for_bit_in_the_middle_of_an_epoch(make, steps, tmp_path):
    words = f"{DUIIT} --lr_policy step --lr_decay_iters 1 --batch_size 3"
    whole, loader = make(words)
    assert loader.batches == 2
    steps(whole, loader, 3)                                     # one epoch, and one step of the next
    whole.update_learning_rate()
    checkpoint.save({"weights": everything(whole), "model": whole.training_state(), "pools": whole.pool_state(),
                     "random": checkpoint.random_state()}, tmp_path / "state.pth")
    steps(whole, loader, 3, epoch=2, skip=1)

    resumed, loader = make(words, continue_train=False)
    state = checkpoint.load(tmp_path / "state.pth")
    for name in resumed.model_names:
        own = {k.removeprefix(f"{name}."): v for k, v in state["weights"].items() if k.startswith(f"{name}.")}
        resumed.net(name).load_state_dict(own)
    resumed.load_training_state(state["model"])
    resumed.load_pool_state(state["pools"])
    checkpoint.set_random_state(state["random"])
    steps(resumed, loader, 3, epoch=2, skip=1)
    found = everything(resumed)
    assert all(torch.equal(found[key], value) for key, value in everything(whole).items())
    assert resumed.optimizer_G.param_groups[0]["lr"] == pytest.approx(0.001)
    for mine, theirs in zip(resumed.fake_B_pool.images, whole.fake_B_pool.images, strict=True):
        assert torch.equal(mine, theirs)


@pytest.mark.parametrize("words", [DUIIT, "--model predictor"])
def test_a_model_that_nobody_needs_any_more_is_gone_at_once(make, steps, words):
    model, loader = make(words)
    steps(model, loader, 1)
    left = weakref.ref(model), weakref.ref(model.netP), weakref.ref(model.optimizers[-1])
    gc.disable()                            # the collector would find a circle, but at a time of its own
    try:
        del model
        assert [thing() for thing in left] == [None, None, None]
    finally:
        gc.enable()


@pytest.mark.slow
def test_the_same_seed_gives_the_same_weights(make, steps):
    first = everything(steps(*make(DUIIT), 2))
    again = everything(steps(*make(DUIIT), 2))
    other = everything(steps(*make(f"{DUIIT} --seed 1"), 2))
    assert all(torch.equal(first[key], value) for key, value in again.items())
    assert not torch.equal(first["G_A.model.1.weight"], other["G_A.model.1.weight"])


def test_weights_of_another_architecture_are_refused(make, options):
    model, _ = make("--model cycle_gan --dataset_mode cross_modality --sources mri --input_nc 1 --output_nc 1")
    model.save_networks("latest")
    other = create_model(options("--model cycle_gan --input_nc 1 --output_nc 1 --ngf 8"))
    with pytest.raises(UserError, match=r"latest_net_G_A.pth.*another architecture.*model.1.weight is \(4, 1, 7, 7\)"):
        other.load_networks("latest")
    with pytest.raises(UserError, match="7_net_G_A.pth: no such file.*--epoch"):
        other.load_networks("7")


# ---- the predictor, with classes ------------------------------------------------------------------------------------

@pytest.fixture
def classes(tmp_path):
    """A target and a source of patients labelled old or young, one of them not at all."""
    import numpy as np
    from PIL import Image
    rng = np.random.default_rng(0)
    for modality in ("mri", "ct"):
        lines = ["patient,label"]
        for n in range(6):
            folder = tmp_path / "data" / modality / f"{modality}{n}"
            folder.mkdir(parents=True)
            for i in (1, 2):
                Image.fromarray(rng.integers(0, 255, (36, 36), np.uint8)).save(folder / f"{i}.png")
            lines += [f"{modality}{n},{('old', 'young')[n % 2]}"] if n else []
        (tmp_path / "data" / modality / "labels.csv").write_text("\n".join(lines) + "\n")
    return tmp_path / "data"


@pytest.mark.slow
@pytest.mark.parametrize("model_name", ["predictor", "duiit"])
def test_classification_from_folders_to_a_loaded_model(make, steps, classes, tmp_path, model_name):
    words = f"--model {model_name} --task classification --dataroot {classes} --name run --val_fraction 0.2"
    model, loader = make(words)
    steps(model, loader, 2)
    assert model.opt.facts.classes == ("old", "young") and model.netP.num_classes == 2
    assert all(torch.isfinite(torch.tensor(v)) for v in model.get_current_losses().values())
    assert 0 <= model.validate(loader.dataset.held_out("val"))["val_error_patient"] <= 1
    model.save_networks("latest")
    run_file.write(tmp_path / "run", model.opt, "0")

    opt = TestOptions().parse(["--name", "run", "--checkpoints_dir", str(tmp_path), "--gpu_ids", "-1",
                               "--cache_dir", str(tmp_path / "cache")])
    dataset = create_dataset(opt).dataset
    loaded = create_model(opt)
    loaded.setup(opt)
    assert opt.facts == model.opt.facts
    assert all(torch.equal(v, model.netP.state_dict()[k]) for k, v in loaded.netP.state_dict().items())
    assert {r.patient for r in dataset.target_part("test")}.isdisjoint(r.patient for r in dataset.target_part("train"))


@pytest.mark.slow
def test_the_predictor_learns_its_training_images(make, steps):
    model, loader = make("--model predictor --lr 0.001 --batch_size 6 --no_flip --load_size 32 --n_epochs 60")
    steps(model, loader, 1)
    first = model.get_current_losses()["P"]
    steps(model, loader, 40)
    assert model.get_current_losses()["P"] < first / 10


def test_predictor_refuses_single_small_images(make):
    with pytest.raises(UserError, match="single images of 32x32"):
        make("--model predictor --batch_size 1")


def test_initial_weights_are_not_asked_for_again_when_going_on(options):
    from duiit.models.parts.prediction import make_predictor
    opt = options("--model predictor", weights_P="gone.pth",
                  facts=Facts(labels_known=3, label_mean=50.0, label_std=10.0))
    with pytest.raises(UserError, match="gone.pth"):
        make_predictor(opt, 1)
    opt.continue_train = True
    assert make_predictor(opt, 1).input_nc == 1


def test_making_a_predictor_draws_no_number_of_the_run():
    from duiit.models.parts.prediction import make_predictor
    opt = SimpleNamespace(seed=3, task="regression", isTrain=True, continue_train=False, weights_P=None,
                          netP="resnet10", facts=Facts())
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    make_predictor(opt, 1)
    assert torch.equal(torch.rand(1), expected)
