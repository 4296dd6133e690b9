"""Tiny networks, tiny cohorts, and toy networks whose answers can be worked out by hand."""
import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from duiit.data import create_dataset
from duiit.models import create_model
from duiit.options import TrainOptions
from duiit.util import checkpoint
from duiit.util.facts import Facts

torch.set_num_threads(1)

TINY = ["--netG", "resnet_1blocks", "--ngf", "4", "--ndf", "4", "--netD", "n_layers", "--n_layers_D", "1",
        "--load_size", "36", "--crop_size", "32", "--gpu_ids", "-1", "--num_threads", "0", "--batch_size", "2",
        "--lr", "0.01"]

FACTS = Facts(labels_known=3, label_mean=0.0, label_std=1.0)        # where no data set is read that says so


def write_cohort(folder, patients, labels, slices=2, size=36, seed=0):
    """<folder>/<patient>/<n>.png of noise, and labels.csv (labels: one a patient, None where there is none)."""
    rng = np.random.default_rng(seed)
    for patient in patients:
        (folder / patient).mkdir(parents=True)
        for n in range(slices):
            Image.fromarray(rng.integers(0, 256, (size, size), np.uint8)).save(folder / patient / f"{n + 1}.png")
    lines = [f"{p},{x}" for p, x in zip(patients, labels, strict=True) if x is not None]
    (folder / "labels.csv").write_text("\n".join(["patient,label", *lines]) + "\n")


@pytest.fixture(scope="session")
def dataroot(tmp_path_factory):
    """mri 5 patients, pet 4 and ct 6, with ages; ct's first has none."""
    root = tmp_path_factory.mktemp("cohorts")
    write_cohort(root / "mri", [f"m{i}" for i in range(5)], [60, 65, 70, 75, 80], seed=1)
    write_cohort(root / "pet", [f"p{i}" for i in range(4)], [50, 55, None, 45], seed=2)
    write_cohort(root / "ct", [f"c{i}" for i in range(6)], [None, 30, 40, 50, 20, 35], seed=3)
    return root


@pytest.fixture(scope="session")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def options(dataroot, cache, tmp_path):
    """options("--model duiit …", name=value, …) -> the parsed options of a training run on the tiny cohorts."""
    def parse(words="", **values):
        places = ["--dataroot", str(dataroot), "--cache_dir", str(cache), "--checkpoints_dir", str(tmp_path)]
        small = ["--netP", "resnet10"] if "cycle_gan" not in words else []
        opt = TrainOptions().parse([*TINY, *places, *small, *words.split()])
        vars(opt).update(values)
        return opt
    return parse


@pytest.fixture
def make(options):
    """make("--model …") -> (model after setup, loader), seeded as a training run is."""
    def build(words="", **values):
        opt = options(words, **values)
        checkpoint.seed_everything(opt.seed)
        loader = create_dataset(opt)
        checkpoint.seed_everything(opt.seed)
        model = create_model(opt)
        model.setup(opt)
        return model, loader
    return build


@pytest.fixture
def steps():
    """steps(model, loader, n): n training steps from the loader's next epoch position."""
    def run(model, loader, count, epoch=1, skip=0):
        while count:
            loader.set_epoch(epoch, skip)
            for batch in loader:
                model.set_input(batch)
                model.optimize_parameters()
                count -= 1
                if not count:
                    break
            epoch, skip = epoch + 1, 0
        return model
    return run


class Times(nn.Module):
    """x -> factor * x, pixel by pixel: a generator, or a discriminator with a score a pixel."""

    def __init__(self, factor):
        super().__init__()
        self.factor = nn.Parameter(torch.tensor(float(factor)))

    def forward(self, x):
        return self.factor * x


class MeanTimes(Times):
    """x (N, C, H, W) -> factor * mean of each image (N,): a predictor."""

    def forward(self, x):
        return super().forward(x).mean((1, 2, 3))


def flat(*values):
    """Images of one value each: (N, 1, 32, 32)."""
    return torch.tensor(values).reshape(-1, 1, 1, 1).expand(-1, 1, 32, 32).clone()


@pytest.fixture
def toy(options):
    """A model with G_A(x) = x/2, G_B(x) = 3x, D_A(x) = 2x, D_B(x) = x, P(x) = 100 mean(x), and a batch set:
    A = 0.2, 0.4 with the labels 13, 16; B = 0.1, 0.3 with the labels 20, unknown."""
    def build(words, **values):
        opt = options(f"--lambda_A 10 --lambda_B 5 {words}", sources="mri", facts=FACTS, **values)
        model = create_model(opt)
        for name, net in {"G_A": Times(0.5), "G_B": Times(3), "D_A": Times(2), "D_B": Times(1)}.items():
            setattr(model, f"net{name}", net)
        model.discriminators = [model.netD_A, model.netD_B]
        if hasattr(model, "netP"):
            model.netP = MeanTimes(100)
        model.set_input({"A": flat(0.2, 0.4), "A_label": torch.tensor([13.0, 16.0]), "A_paths": ["a1", "a2"],
                         "B": flat(0.1, 0.3), "B_label": torch.tensor([20.0, float("nan")]), "B_paths": ["b1", "b2"]})
        return model
    return build
