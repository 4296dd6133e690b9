"""Which methods there are for which data, and what they train."""
import pytest

from duiit.options import ExperimentOptions, TrainOptions, presets
from duiit.util.errors import UserError
from duiit_cli.experiments.planning import methods
from duiit_cli.experiments.planning.plan import Plan
from duiit_cli.experiments.reporting.published import BUILT_IN, read_published


def test_the_papers_methods_for_the_papers_data():
    names = list(methods.available(["mri", "pet"]))
    for source in ("mri", "pet"):
        assert {f"{f}_{source}" for f in ("raw", "transfer", "multitask", "dann", "cyclegan", "duiit",
                                          "oracle")} <= set(names)
    assert {"pure_ct", "simple_augment", "autoaugment", "random_erasing", "duiit_mri_pet"} <= set(names)


def test_ones_own_folders_are_trained_on_with_the_settings_for_mri():
    found = methods.available(["flair"], "t1")
    assert set(found["duiit_flair"].sources) == {"flair"}
    assert found["duiit_flair"].translator["sources"] == "flair"
    assert found["raw_flair"].predictor["raw"] == "flair"
    assert found["transfer_flair"].start["raw"] == "flair"
    assert found["duiit_flair"].title == "DUIIT (FLAIR → T1)"
    own, mri = found["duiit_flair"].translator, methods.available(["mri"])["duiit_mri"].translator
    assert {**own, "sources": "mri"} == mri


def test_the_papers_sources_are_known_in_large_letters_too():
    large, small = methods.available(["PET"], "CT")["duiit_PET"], methods.available(["pet"])["duiit_pet"]
    assert large.translator == {**small.translator, "sources": "PET"} and large.sources == ("PET",)


def test_a_family_stands_for_its_methods_and_pure_ct_is_always_there(tmp_path):
    chosen, refused = methods.choose("duiit", ["mri", "pet"], tmp_path)
    assert [m.name for m in chosen] == ["pure_ct", "duiit_mri", "duiit_pet", "duiit_mri_pet"]
    assert refused == []


def test_the_oracle_needs_the_truth(tmp_path):
    assert "oracle_mri" not in {m.name for m in methods.choose(None, ["mri"], tmp_path)[0]}
    (tmp_path / "truth" / "mri").mkdir(parents=True)
    assert "oracle_mri" in {m.name for m in methods.choose(None, ["mri"], tmp_path)[0]}


def test_a_method_of_ones_own(tmp_path):
    file = tmp_path / "huber.toml"
    file.write_text('[method]\ntitle = "Huber"\ntable = "CT"\n[predictor]\nloss_P = "huber"\n')
    chosen, _ = methods.choose(str(file), [], tmp_path)
    assert [(m.name, m.predictor) for m in chosen][1] == ("huber", {"loss_P": "huber"})
    file.write_text('loss_P = "huber"\n')
    with pytest.raises(UserError, match="not a method"):
        methods.choose(str(file), [], tmp_path)


def test_what_is_chosen_from_is_compared_too(tmp_path):
    chosen, _ = methods.choose("chosen", ["mri", "pet"], tmp_path)
    assert [m.name for m in chosen] == ["pure_ct", "cyclegan_mri", "cyclegan_pet", "cyclegan_mri_pet", "duiit_mri",
                                        "duiit_pet", "duiit_mri_pet", "chosen_mri", "chosen_pet", "chosen_mri_pet"]
    assert methods.available(["flair"])["chosen_flair"].choose == ("duiit_flair", "cyclegan_flair")
    file = tmp_path / "mine.toml"
    file.write_text('[method]\ntitle = "Mine"\ntable = "CT"\nchoose = ["pure_ct", "nobody"]\n')
    with pytest.raises(UserError, match="chooses from nobody, which is no method"):
        methods.choose(str(file), ["mri"], tmp_path)


def test_a_scale_does_not_take_from_a_method_what_it_is_called_by(tmp_path, phantom):
    mine = tmp_path / "mine.toml"
    mine.write_text('[method]\ntitle = "Mine"\ntable = "MRI"\nsources = ["mri"]\n[translator]\nmodel = "duiit"\n'
                    'sources = "mri"\nguidance = "detached"\nlr = 0.1\n[predictor]\nmodel = "predictor"\n')
    scale = tmp_path / "scale.toml"
    scale.write_text('[translator]\nguidance = "real"\npush = "batch"\nlr = 0.5\n')
    opt = ExperimentOptions().parse(["--dataroot", str(phantom), "--output", str(tmp_path / "E"), "--splits", "1",
                                     "--preset", str(scale), "--device", "cpu"])
    chosen, _ = methods.choose(str(mine), ["mri"], phantom)
    words = Plan(opt, chosen).tasks["translators/mine/split_00"].words
    assert {"--guidance=detached", "--push=batch", "--lr=0.5"} <= set(words)


# -- what the appendix says ----------------------------------------------------------------------------------------

# name: (netP, batch, lr, weight decay, starts from another training) of the predictor.
APPENDIX = {
    "pure_ct": ("resnet50", 64, 1e-4, 0, False), "duiit_mri": ("resnet50", 64, 1e-4, 0, False),
    "cyclegan_mri": ("resnet50", 64, 1e-4, 0, False), "transfer_mri": ("resnet50", 64, 1e-4, 0, True),
    "multitask_mri": ("resnet50", 32, 1e-4, 0, True), "multitask_pet": ("resnet50", 32, 1e-4, 0, True),
    "simple_augment": ("resnet50", 64, 1e-3, 0, False), "duiit_pet": ("resnet18", 64, 1e-4, 0, False),
    "cyclegan_pet": ("resnet18", 64, 1e-4, 0, False), "duiit_mri_pet": ("resnet18", 64, 1e-4, 0, True),
    "autoaugment": ("resnet18", 32, 1e-4, 0, False), "random_erasing": ("resnet18", 64, 1e-4, 0, False),
    "transfer_pet": ("resnet50", 32, 1e-4, 0, True), "dann_mri": ("resnet50", 64, 1e-5, 1e-3, False),
    "dann_pet": ("resnet18", 32, 1e-4, 0, False)}


@pytest.mark.parametrize("name", APPENDIX)
def test_a_row_has_the_settings_of_the_appendix(name):
    method = methods.load(name, {})
    opt = TrainOptions().parse(["--dataroot", "d", "--device", "cpu", "--preset", name, *_the_predictors(method)])
    assert (opt.netP, opt.batch_size, opt.lr, opt.weight_decay, method.start is not None) == APPENDIX[name]
    assert (opt.n_epochs, opt.n_epochs_decay, opt.beta1) == (100, 0, 0.9)


def _the_predictors(method):
    """A file's first table is a translator's where it has one; the model's name asks for the other."""
    return ["--model", "predictor"] if method.translator else []


def test_the_multi_task_weights():
    assert [(m.predictor["weight_source"], m.predictor["weight_target"])
            for m in map(methods.load, ("multitask_mri", "multitask_pet"), ({}, {}))] == [(0.05, 0.95), (0.1, 0.9)]


@pytest.mark.parametrize("name", ["duiit_mri", "duiit_pet", "duiit_mri_pet", "cyclegan_mri", "cyclegan_pet",
                                  "cyclegan_mri_pet"])
def test_the_translators_settings(name):
    opt = TrainOptions().parse(["--dataroot", "d", "--device", "cpu", "--preset", name])
    assert (opt.n_epochs + opt.n_epochs_decay, opt.lr, opt.batch_size, opt.lambda_A, opt.lambda_B,
            opt.lambda_identity, opt.input_nc) == (200, 2e-4, 16, 10, 10, 0, 1)
    if opt.model == "duiit":
        assert (opt.lambda_pred, opt.lr_P, opt.guidance) == (1e-3, 1e-3, "joint")
    assert opt.sources == name.split("_", 1)[1].replace("_", ",")


def test_cyclegan_and_duiit_differ_in_the_coupling_alone():
    cycle, duiit = (TrainOptions().parse(["--dataroot", "d", "--device", "cpu", "--preset", n])
                    for n in ("cyclegan_mri", "duiit_mri"))
    shared = set(vars(cycle)) & set(vars(duiit))
    assert {k for k in shared if getattr(cycle, k) != getattr(duiit, k)} <= {"model", "preset", "words"}


def test_every_methods_file_says_its_command():
    for name in presets.names():
        if "method" in presets.read(name):
            head = (presets.FOLDER / f"{name}.toml").read_text().split("[method]")[0]
            assert f"--methods {name}" in head and ("Paper: " in head or "Not in the paper" in head)


def test_a_methods_file_says_the_papers_figure():
    paper = read_published(BUILT_IN, presets.names())
    for name, figures in paper.figures.items():
        head = (presets.FOLDER / f"{name}.toml").read_text().split("[method]")[0]
        assert "# Paper: mean squared error {:.2f} ± {:.2f} years²".format(*figures["mse"]) in head
        assert "other data, split by image" in head
        assert "fid" not in figures or f"FID {figures['fid'][0]}" in head


# -- what is trained once ------------------------------------------------------------------------------------------

def plan_of(tmp_path, phantom, names, splits=2):
    opt = ExperimentOptions().parse(["--dataroot", str(phantom), "--output", str(tmp_path / "E"), "--preset",
                                     "phantom", "--splits", str(splits), "--device", "cpu"])
    return Plan(opt, methods.choose(names, ["mri", "pet"], phantom)[0])


def test_trainings_that_are_the_same_are_one(tmp_path, phantom):
    tasks = plan_of(tmp_path, phantom, "pure_ct,multitask_mri,duiit_mri_pet,cyclegan_mri").tasks
    assert [t for t in tasks if t.startswith("starts/multitask")] == [], "it starts from PURE-CT's own network"
    assert tasks["cells/multitask_mri/split_01"].needs == ["cells/pure_ct/split_01"]
    assert "--weights_P=" + str(tmp_path / "E/cells/pure_ct/split_01/latest_net_P.pth") in \
        tasks["cells/multitask_mri/split_01"].words


def test_all_methods_of_a_split_share_its_seed_and_fractions(tmp_path, phantom):
    tasks = [t for t in plan_of(tmp_path, phantom, None).tasks.values() if t.words]
    for split in (0, 1):
        for option in ("split_seed", "val_fraction", "test_fraction", "split_by", "target"):
            values = {w for t in tasks if t.split == split for w in t.words if w.startswith(f"--{option}=")}
            assert len(values) == 1, values
    assert {t.split for t in tasks} == {0, 1}


def test_the_papers_split_is_the_default():
    opt = ExperimentOptions().parse(["--dataroot", "d", "--output", "e"])
    from duiit.data.splits import sizes
    assert sizes(2438, opt.val_fraction, opt.test_fraction) == (1887, 271, 280)
