"""Networks in from the toolkit (`duiit import`) and out to other programs (`duiit export`)."""
import json
import warnings
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import tifffile
import torch
from PIL import Image

from duiit.data.preparing.intensity import ct_window
from duiit.models import networks

INSTANCE_NORMS = (2, 5, 8)                      # places of a ResNet's first norms, for keys of before PyTorch 0.4


def resnet_keys(features, channels_in, channels_out, blocks, seed=0):
    """A ResNet generator with instance norm as the toolkit saves it: the key names are written out here."""
    drawn, f = torch.Generator().manual_seed(seed), features
    shapes = {"model.1": (f, channels_in, 7, 7), "model.4": (2 * f, f, 3, 3), "model.7": (4 * f, 2 * f, 3, 3)}
    for n in range(10, 10 + blocks):
        shapes |= {f"model.{n}.conv_block.{place}": (4 * f, 4 * f, 3, 3) for place in (1, 5)}
    last = 10 + blocks
    shapes |= {f"model.{last}": (4 * f, 2 * f, 3, 3), f"model.{last + 3}": (2 * f, f, 3, 3),
               f"model.{last + 7}": (channels_out, f, 7, 7)}
    state = {}
    for name, shape in shapes.items():
        transposed = name in (f"model.{last}", f"model.{last + 3}")
        state[f"{name}.weight"] = torch.randn(shape, generator=drawn) * 0.05
        state[f"{name}.bias"] = torch.randn(shape[1 if transposed else 0], generator=drawn) * 0.05
    return state


def patch_keys(features, channels, seed=0):
    """The toolkit's 70x70 PatchGAN with instance norm."""
    drawn, f = torch.Generator().manual_seed(seed), features
    widths = {"model.0": (f, channels), "model.2": (2 * f, f), "model.5": (4 * f, 2 * f), "model.8": (8 * f, 4 * f),
              "model.11": (1, 8 * f)}
    return {f"{name}.{what}": torch.randn((n, *(shape if what == "weight" else ())), generator=drawn)
            for name, (n, c) in widths.items() for what, shape in (("weight", (c, 4, 4)), ("bias", None))}


@pytest.fixture
def upstream(tmp_path):
    """A folder as the toolkit's training leaves it: 3 channels to 1, six features, two blocks, 70x70 discriminators."""
    folder = tmp_path / "upstream"
    folder.mkdir()
    states = {"G_A": resnet_keys(6, 3, 1, 2), "G_B": resnet_keys(6, 1, 3, 2, 1),
              "D_A": patch_keys(4, 1), "D_B": patch_keys(4, 3)}
    for name, state in states.items():
        torch.save(state, folder / f"latest_net_{name}.pth")
    return folder


@pytest.fixture
def photos(tmp_path):
    """The toolkit's layout, with colour images of 32x32."""
    rng = np.random.default_rng(0)
    for side in ("trainA", "trainB", "testA", "testB"):
        (tmp_path / "photos" / side / "p").mkdir(parents=True)
        for n in range(2):
            Image.fromarray(rng.integers(0, 256, (32, 32, 3), np.uint8)).save(
                tmp_path / "photos" / side / "p" / f"{n}.png")
    return tmp_path / "photos"


@pytest.fixture
def runs(tmp_path):
    return tmp_path / "runs"


def options_of(run):
    return json.loads((run / "train_opt.json").read_text())["options"]


def facts_of(run):
    return json.loads((run / "facts.json").read_text())


SIZES = ["--load_size", 32, "--crop_size", 32, "--device", "cpu"]


# -- import --------------------------------------------------------------------------------------------------------

def test_import_recognises_and_translates(tmp_path, capsys, duiit, upstream, photos, runs):
    run = ["--checkpoints_dir", runs, "--name", "in"]
    assert duiit("import", "--from", upstream, *run, *SIZES) == 0
    told = capsys.readouterr().err
    for word in ("netG resnet_2blocks", "ngf 6", "input_nc 3", "output_nc 1", "norm instance", "netD basic", "ndf 4"):
        assert word in told
    assert duiit("translate", *run, "--input", photos / "testA", "--output", tmp_path / "out", "--format", "tiff") == 0
    net = networks.define_G(3, 1, 6, "resnet_2blocks", "instance").eval()
    net.load_state_dict(torch.load(upstream / "latest_net_G_A.pth", weights_only=True))
    pixels = np.asarray(Image.open(photos / "testA" / "p" / "0.png"), np.float32).transpose(2, 0, 1)
    with torch.no_grad():
        wanted = net(torch.from_numpy(pixels / 127.5 - 1)[None])[0, 0].numpy()
    got = tifffile.imread(tmp_path / "out" / "p" / "0.tif")
    np.testing.assert_allclose(got, (wanted + 1) * 127.5, atol=1e-3)


def test_imported_files_are_the_toolkits(duiit, upstream, runs):
    assert duiit("import", "--from", upstream, "--checkpoints_dir", runs, "--name", "in", "--device", "cpu") == 0
    assert {p.name for p in (runs / "in").iterdir()} == {
        "train_opt.json", "facts.json", "provenance.json",
        *(f"latest_net_{n}.pth" for n in ("G_A", "G_B", "D_A", "D_B"))}
    for name in ("G_A", "G_B", "D_A", "D_B"):
        one, other = (torch.load(f / f"latest_net_{name}.pth", weights_only=True) for f in (upstream, runs / "in"))
        assert list(one) == list(other)
        assert all(torch.equal(one[k], other[k]) for k in one)


def test_files_of_before_torch_04_and_of_data_parallel(duiit, upstream, runs):
    """Instance norms had statistics then, DataParallel's prefix was common, and the file was no zip archive."""
    for path in upstream.glob("*.pth"):
        state = torch.load(path, weights_only=True)
        extra = {f"model.{n}.running_{what}": torch.zeros(6) for n in INSTANCE_NORMS for what in ("mean", "var")} \
            if "_G_" in path.name else {}
        old = {f"module.{k}": v for k, v in {**state, **extra}.items()}
        torch.save(old, path, _use_new_zipfile_serialization=False)
    assert duiit("import", "--from", upstream, "--checkpoints_dir", runs, "--name", "in", "--device", "cpu") == 0
    assert options_of(runs / "in")["norm"] == "instance"
    kept = torch.load(runs / "in" / "latest_net_G_A.pth", weights_only=True)
    assert list(kept) == list(resnet_keys(6, 3, 1, 2))


def test_import_for_testing_on_modalities(tmp_path, duiit, phantom, runs, upstream):
    for name in ("G_A", "G_B"):
        torch.save(resnet_keys(4, 1, 1, 1), upstream / f"latest_net_{name}.pth")
    for path in upstream.glob("*_D_*"):
        path.unlink()
    run = ["--checkpoints_dir", runs, "--name", "in"]
    assert duiit("import", "--from", upstream, *run, *SIZES, "--dataroot", phantom, "--sources", "mri") == 0
    options = options_of(runs / "in")
    assert (options["sources"], options["target"]) == ("mri", "ct")
    assert facts_of(runs / "in")["target_range"] == [-20.0, 100.0, "HU"]
    lines = (runs / "in" / "split.csv").read_text().splitlines()
    assert len(lines) == 13
    assert all(line.endswith(",test") for line in lines[1:])
    assert duiit("test", *run, "--results_dir", tmp_path / "results") == 0
    report = json.loads((tmp_path / "results" / "in" / "test_latest" / "metrics.json").read_text())
    assert report["paired"]["mri"]["n"]["images"] == 12


def test_a_run_of_our_own_comes_in_with_its_predictor(tmp_path, capsys, duiit, trained, phantom, runs):
    run = ["--checkpoints_dir", runs, "--name", "in"]
    assert duiit("import", "--from", trained / "demo", *run, *SIZES, "--sources", "mri", "--target", "ct") == 0
    assert (options_of(runs / "in")["model"], options_of(runs / "in")["netP"]) == ("duiit", "resnet10")
    answers = []
    for words in (run, ["--checkpoints_dir", trained, "--name", "demo"]):
        capsys.readouterr()
        assert duiit("predict", *words, "--input", phantom / "ct", "--interval", 0, "--device", "cpu") == 0
        answers.append([line.split(",")[:4] for line in capsys.readouterr().out.splitlines()])
    assert answers[0] == answers[1]


def torchvisions_predictor(folder, outputs):
    """A ResNet under torchvision's names."""
    torch.manual_seed(0)
    net = networks.define_P("resnet10", 3, "classification" if outputs > 1 else "regression", outputs)
    state = {k.removeprefix("backbone.").replace("head.", "fc."): v for k, v in net.state_dict().items()}
    folder.mkdir()
    torch.save({k: v for k, v in state.items() if not k.startswith(("label_", "image_"))},
               folder / "latest_net_P.pth")
    return folder


def test_a_predictor_under_torchvisions_names(tmp_path, capsys, duiit, refused, phantom, runs):
    folder = torchvisions_predictor(tmp_path / "their", 3)
    words = ["import", "--from", folder, "--checkpoints_dir", runs, *SIZES]
    assert "--classes a,b" in refused(*words, "--name", "in", "--classes", "a,b")
    assert "--task regression" in refused(*words, "--name", "in", "--task", "regression")
    assert duiit(*words, "--name", "in", "--classes", "none,mild,severe") == 0
    assert options_of(runs / "in")["model"] == "predictor"
    assert facts_of(runs / "in")["classes"] == ["none", "mild", "severe"]
    capsys.readouterr()
    assert duiit("predict", "--checkpoints_dir", runs, "--name", "in", "--input", phantom / "ct", "--device", "cpu",
                 "--interval", 0) == 0
    assert "p_mild" in capsys.readouterr().out.splitlines()[0]


def test_wrong_keys_are_refused_with_file_and_key(refused, upstream, runs):
    state = resnet_keys(6, 3, 1, 2)
    state["model.99.weight"] = state.pop("model.4.weight")
    torch.save(state, upstream / "latest_net_G_A.pth")
    message = refused("import", "--from", upstream, "--checkpoints_dir", runs, "--name", "in", "--device", "cpu")
    assert str(upstream / "latest_net_G_A.pth") in message
    assert "model.4.weight is missing" in message
    assert not (runs / "in").exists()
    assert list(runs.glob("*")) == []


@pytest.mark.parametrize(("file", "state", "told"), [
    ("D_B", {"conv.weight": torch.zeros(1)}, "holds no discriminator of the toolkit (its first key is conv.weight)"),
    ("P", {"layers.0.weight": torch.zeros(1)}, "its first key is layers.0.weight"),
    ("G_A", patch_keys(4, 1), "model.1.weight is missing"),
    ("G_A", [1, 2], "holds no state dict")])
def test_files_that_hold_something_else(refused, upstream, runs, file, state, told):
    torch.save(state, upstream / f"latest_net_{file}.pth")
    message = refused("import", "--from", upstream, "--checkpoints_dir", runs, "--name", "in", "--device", "cpu")
    assert f"latest_net_{file}.pth" in message
    assert told in message
    assert not (runs / "in").exists()


class Malicious:
    """What an attacker's file holds: unpickling it runs a program."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return Path.touch, (Path(self.mark),)


def test_a_malicious_pickle_is_refused_and_not_run(tmp_path, refused, upstream, runs):
    for zipped in (True, False):
        state = {**resnet_keys(6, 1, 3, 2), "model.1.evil": Malicious(str(tmp_path / "ran"))}
        torch.save(state, upstream / "latest_net_G_B.pth", _use_new_zipfile_serialization=zipped)
        message = refused("import", "--from", upstream, "--checkpoints_dir", runs, "--name", "in", "--device", "cpu")
        assert "latest_net_G_B.pth" in message
    assert not (tmp_path / "ran").exists()
    assert not (runs / "in").exists()
    torch.load(upstream / "latest_net_G_B.pth", weights_only=False)
    assert (tmp_path / "ran").exists(), "the file was a working attack"


def test_what_import_needs(tmp_path, duiit, refused, upstream, runs):
    words = ["import", "--checkpoints_dir", runs, "--device", "cpu", "--name"]
    assert "--from is missing" in refused(*words, "in")
    assert "no such folder" in refused(*words, "in", "--from", tmp_path / "no")
    assert "there are those of --epoch latest" in refused(*words, "in", "--from", upstream, "--epoch", 200)
    assert duiit(*words, "in", "--from", upstream) == 0
    before = {p: p.read_bytes() for p in (runs / "in").iterdir()}
    assert "already holds a run" in refused(*words, "in", "--from", upstream)
    assert {p: p.read_bytes() for p in (runs / "in").iterdir()} == before
    assert "--dataroot is missing" in refused("test", "--checkpoints_dir", runs, "--name", "in")
    (upstream / "latest_net_G_B.pth").unlink()
    assert "has no latest_net_G_B.pth" in refused(*words, "two", "--from", upstream)


def test_an_import_that_fails_late_leaves_nothing(monkeypatch, refused, upstream, runs):
    from duiit.options import run_file
    from duiit.util.errors import UserError

    def fail(*given):
        raise UserError("no space left")
    monkeypatch.setattr(run_file, "write", fail)
    assert refused("import", "--from", upstream, "--checkpoints_dir", runs, "--name", "in", "--device", "cpu")
    assert list(runs.iterdir()) == []


def test_networks_of_a_plug_in(duiit, upstream, runs):
    torch.save(networks.define_G(3, 3, 4, "unet_128", "batch").state_dict(), upstream / "20_net_G.pth")
    folder = Path(__file__).parents[2] / "plugins" / "toolkit"
    assert duiit("import", "--from", upstream, "--epoch", 20, "--plugins", folder, "--model", "pix2pix",
                 "--checkpoints_dir", runs, "--name", "in", "--device", "cpu") == 0
    options = options_of(runs / "in")
    assert (options["netG"], options["norm"], options["dataset_mode"]) == ("unet_128", "batch", "aligned")


# -- export --------------------------------------------------------------------------------------------------------

def runner(path, kind):
    """images (N, C, H, W) -> what the exported file answers, as another program would ask it."""
    if kind == "onnx":
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        return lambda images: session.run(None, {"image": images})[0]
    if kind == "torchscript":
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            net = torch.jit.load(str(path))
    else:
        net = torch.export.load(str(path)).module()
    return lambda images: net(torch.from_numpy(images)).detach().numpy()


@pytest.fixture(scope="module")
def demo(trained):
    return ["--checkpoints_dir", trained, "--name", "demo"]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["onnx", "torchscript", "pt2"])
def test_an_exported_translator_gives_hu_of_any_number_and_size(tmp_path, capsys, duiit, demo, trained, kind):
    file = tmp_path / f"G.{kind}"
    assert duiit("export", *demo, "--net", "G", "--format", kind, "--output", file) == 0
    assert "real images of" in capsys.readouterr().err
    run = runner(file, kind)
    net = networks.define_G(1, 1, 4, "resnet_1blocks", "instance").eval()
    net.load_state_dict(torch.load(trained / "demo" / "latest_net_G_A.pth", weights_only=True))
    for shape in ((1, 1, 32, 32), (3, 1, 64, 40), (2, 1, 8, 100)):
        images = np.random.default_rng(0).uniform(-1, 1, shape).astype(np.float32)
        with torch.no_grad():
            wanted = ct_window("brain").restore(net(torch.from_numpy(images)).numpy())
        np.testing.assert_allclose(run(images), wanted, atol=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["onnx", "torchscript", "pt2"])
def test_an_exported_predictor_reads_hu(tmp_path, duiit, demo, trained, kind):
    file = tmp_path / f"P.{kind}"
    assert duiit("export", *demo, "--net", "P", "--format", kind, "--output", file) == 0
    net = networks.define_P("resnet10", 1).eval()
    net.load_state_dict(torch.load(trained / "demo" / "latest_net_P.pth", weights_only=True))
    for shape in ((1, 1, 33, 64), (3, 1, 48, 40)):
        images = np.random.default_rng(0).uniform(-1000, 2000, shape).astype(np.float32)
        with torch.no_grad():
            wanted = net(torch.from_numpy(ct_window("brain").normalise(images))).numpy()
        np.testing.assert_allclose(runner(file, kind)(images), wanted, rtol=1e-4)


@pytest.mark.slow
def test_the_file_answers_as_duiit_does(tmp_path, duiit, demo, phantom, trained):
    """From a scan to its translation, with nothing but the file and what stands in its JSON."""
    assert duiit("export", *demo, "--output", tmp_path / "G.onnx") == 0
    assert duiit("translate", *demo, "--input", phantom / "mri", "--output", tmp_path / "out", "--format", "npy") == 0
    about = json.loads((tmp_path / "G.json").read_text())
    assert about["input"]["settings"]["load_size"] == 32
    result = sorted((tmp_path / "out").rglob("*.npy"))[0]
    folder = sorted((phantom / "mri").rglob(f"{result.stem}.tif"))[0].parent
    files = [p for p in folder.glob("*.tif") if "_mask" not in p.stem]
    flair = {p.stem: tifffile.imread(p)[..., 1].astype(np.float32) for p in files}
    low, high = np.percentile(np.stack(list(flair.values())), about["input"]["percentiles"])
    image = np.clip((flair[result.stem] - low) / (high - low) * 2 - 1, -1, 1).astype(np.float32)
    got = runner(tmp_path / "G.onnx", "onnx")(image[None, None])
    np.testing.assert_allclose(got[0, 0], np.load(result), atol=1e-3)


@pytest.mark.slow
def test_what_is_written_beside(tmp_path, duiit, demo):
    assert duiit("export", *demo, "--output", tmp_path / "G.onnx") == 0
    assert duiit("export", *demo, "--net", "P", "--output", tmp_path / "P.onnx") == 0
    G, P = (json.loads((tmp_path / f"{n}.json").read_text()) for n in "GP")
    assert (G["input"]["modality"], G["input"]["range"], G["input"]["size_multiple_of"]) == ("mri", [-1, 1], 4)
    assert (G["output"]["unit"], G["output"]["range"]) == ("HU", [-20.0, 100.0])
    assert (P["input"]["unit"], P["input"]["range"], P["output"]["name"]) == ("HU", [-20.0, 100.0], "label")
    assert set(P["output"]["training_labels"]) == {"mean", "std"}
    assert P["checked"]["max_relative_difference"] < 1e-5
    assert sorted(p.name for p in tmp_path.iterdir()) == ["G.json", "G.onnx", "P.json", "P.onnx"]


@pytest.mark.slow
def test_classes_come_out_as_probabilities(tmp_path, capsys, duiit, runs):
    folder = torchvisions_predictor(tmp_path / "their", 3)
    run = ["--checkpoints_dir", runs, "--name", "in"]
    assert duiit("import", "--from", folder, *run, *SIZES, "--classes", "none,mild,severe") == 0
    capsys.readouterr()
    assert duiit("export", *run, "--net", "P", "--output", tmp_path / "P.onnx") == 0
    assert "compared on seeded noise" in capsys.readouterr().err, "the run knows of no data"
    assert json.loads((tmp_path / "P.json").read_text())["output"]["classes"] == ["none", "mild", "severe"]
    answer = runner(tmp_path / "P.onnx", "onnx")(np.zeros((2, 3, 40, 40), np.float32))
    np.testing.assert_allclose(answer.sum(1), [1, 1], rtol=1e-6)


@pytest.mark.slow
def test_a_unet_is_exported_too(tmp_path, duiit, runs):
    folder = tmp_path / "u"
    folder.mkdir()
    for name in ("G_A", "G_B"):
        torch.save(networks.define_G(1, 1, 4, "unet_128", "batch").state_dict(), folder / f"latest_net_{name}.pth")
    run = ["--checkpoints_dir", runs, "--name", "in"]
    assert duiit("import", "--from", folder, *run, *SIZES) == 0
    assert duiit("export", *run, "--output", tmp_path / "G.onnx") == 0
    assert runner(tmp_path / "G.onnx", "onnx")(np.zeros((1, 1, 256, 384), np.float32)).shape == (1, 1, 256, 384)


@pytest.mark.slow
@pytest.mark.parametrize(("wrong", "told"), [
    (lambda answer: answer * 1.01, "differ from the original's by"), (lambda answer: answer * np.nan, "inf"),
    (lambda answer: answer[:, :, 1:], "instead of")])
def test_a_file_that_answers_otherwise_is_not_kept(tmp_path, monkeypatch, refused, demo, wrong, told):
    from duiit_cli.inference import export as exporting

    right = exporting._torchscript
    monkeypatch.setattr(exporting, "_torchscript", lambda file: lambda batch: wrong(right(file)(batch).numpy()))
    assert told in refused("export", *demo, "--format", "torchscript", "--output", tmp_path / "G.pt")
    assert list(tmp_path.iterdir()) == []


def test_a_package_that_is_not_there(tmp_path, monkeypatch, refused, demo):
    from duiit_cli.inference import export as exporting

    monkeypatch.setattr(exporting, "find_spec", lambda name: None)
    assert 'pip install "duiit[export]"' in refused("export", *demo, "--output", tmp_path / "G.onnx")
    assert list(tmp_path.iterdir()) == []


def test_what_export_needs(tmp_path, refused, demo):
    assert "--output is missing" in refused("export", *demo)
    assert "is written as .json beside" in refused("export", *demo, "--output", tmp_path / "G.json")
    assert "--source pet: the run translates mri" in refused("export", *demo, "--source", "pet", "--output",
                                                             tmp_path / "G.onnx")
    assert "no such file" in refused("export", *demo, "--epoch", 77, "--output", tmp_path / "G.onnx")
