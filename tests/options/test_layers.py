"""Where a value comes from: defaults < the run < the preset < the command line."""
import json
import math
import sys

import pytest

from duiit import models
from duiit.options import PredictOptions, TestOptions, TrainOptions, TranslateOptions, run_file
from duiit.util.errors import UserError
from duiit.util.facts import Facts

DATA = ["--dataroot", "somewhere", "--device", "cpu"]


@pytest.fixture
def preset(tmp_path):
    def write(text):
        path = tmp_path / "mine.toml"
        path.write_text(text)
        return str(path)
    return write


@pytest.fixture
def run(tmp_path):
    """A run `old` with options of its own; returns the words that lead to it."""
    opt = TrainOptions().parse([*DATA, "--model", "cycle_gan", "--ngf", "7", "--ndf", "5", "--crop_size", "64",
                                "--batch_size", "3", "--input_nc", "1"])
    opt.facts = Facts(label_mean=51.5, target_range=(0.0, 80.0, "HU"))
    run_file.write(tmp_path / "runs" / "old", opt, "0")
    return ["--checkpoints_dir", str(tmp_path / "runs"), "--name", "old"]


def test_the_default_holds_where_nothing_is_said():
    opt = TrainOptions().parse(DATA)
    assert (opt.model, opt.dataset_mode, opt.batch_size, opt.lambda_pred) == ("duiit", "cross_modality", 16, 0.001)
    assert (opt.input_nc, opt.lambda_identity, opt.no_dropout) == (1, 0.0, True)


def test_a_preset_overrides_defaults_and_the_command_line_a_preset(preset):
    file = preset('ngf = 8\nlambda-pred = 0.5\nmodel = "duiit"')
    opt = TrainOptions().parse([*DATA, "--preset", file, "--ngf", "9"])
    assert (opt.ngf, opt.lambda_pred) == (9, 0.5)


def test_the_preset_chooses_the_model_and_the_command_line_overrules_it(preset):
    file = preset('model = "predictor"')
    assert TrainOptions().parse([*DATA, "--preset", file]).dataset_mode == "labelled"
    assert TrainOptions().parse([*DATA, "--preset", file, "--model", "cycle_gan"]).lambda_A == 10.0


TABLES = """
load_size = 64
netP = "resnet10"
[translator]
ngf = 8
[predictor]
lr = 0.5
"""


def test_a_presets_tables_are_for_the_models_they_speak_of(preset):
    file = preset(TABLES)
    translator = TrainOptions().parse([*DATA, "--preset", file, "--crop_size", "64"])
    assert (translator.model, translator.ngf, translator.netP, translator.lr) == ("duiit", 8, "resnet10", 0.0002)
    predictor = TrainOptions().parse([*DATA, "--preset", file, "--crop_size", "64", "--model", "predictor"])
    assert (predictor.ngf, predictor.netP, predictor.lr, predictor.load_size) == (64, "resnet10", 0.5, 64)


def test_a_preset_with_tables_may_name_what_the_model_at_hand_lacks(preset):
    file = preset(TABLES)
    opt = TrainOptions().parse([*DATA, "--preset", file, "--crop_size", "64", "--model", "cycle_gan"])
    assert opt.ngf == 8 and not hasattr(opt, "netP")
    with pytest.raises(UserError, match=r"unknown option netQ with --model cycle_gan \(did you mean netG\?\)"):
        TrainOptions().parse([*DATA, "--preset", preset(TABLES.replace("netP", "netQ")), "--model", "cycle_gan"])


def test_the_first_table_chooses_the_model(preset):
    file = preset('[translator]\nmodel = "cycle_gan"\n[predictor]\nmodel = "predictor"\nlr = 0.5')
    assert TrainOptions().parse([*DATA, "--preset", file]).model == "cycle_gan"
    assert TrainOptions().parse([*DATA, "--preset", file, "--model", "predictor"]).lr == 0.5


def test_commands_on_a_run_take_its_architecture(run, tmp_path):
    words = [*run, "--device", "cpu"]
    for options in (TestOptions(), TranslateOptions(), PredictOptions()):
        extra = [] if isinstance(options, TestOptions) else ["--input", "x"]
        extra += ["--output", str(tmp_path / "out")] if isinstance(options, TranslateOptions) else []
        opt = options.parse([*words, *extra])
        assert (opt.model, opt.ngf, opt.crop_size, opt.input_nc) == ("cycle_gan", 7, 64, 1)
        assert opt.facts == Facts(label_mean=51.5, target_range=(0.0, 80.0, "HU"))
        assert not opt.isTrain
        assert opt.phase == "test"
        assert opt.batch_size == 16, "how many images a step is not the run's to say once it is trained"


def test_over_a_run_stand_the_preset_and_the_command_line(run, preset):
    file = preset("ngf = 8\nndf = 6\ncrop_size = 128")
    opt = TestOptions().parse([*run, "--device", "cpu", "--preset", file, "--crop_size", "32"])
    assert (opt.ngf, opt.ndf, opt.crop_size) == (8, 6, 32)


def test_a_preset_may_name_the_run(run, preset):
    file = preset(f'checkpoints_dir = "{run[1]}"\nname = "old"')
    assert TestOptions().parse(["--device", "cpu", "--preset", file]).ngf == 7


def test_going_on_takes_everything_from_the_run(run):
    opt = TrainOptions().parse([*run, "--device", "cpu", "--continue_train", "--n_epochs", "300"])
    assert (opt.dataroot, opt.model, opt.ngf, opt.batch_size, opt.n_epochs) == ("somewhere", "cycle_gan", 7, 3, 300)
    assert opt.continue_train
    assert opt.isTrain


def test_a_new_run_takes_nothing_from_an_old_one_of_its_name(run):
    assert TrainOptions().parse([*DATA, *run]).ngf == 64


def test_run_file_gives_back_what_was_written(tmp_path):
    opt = TrainOptions().parse([*DATA, "--model", "predictor", "--extra", "a", "--extra", "b"])
    opt.facts = Facts(classes=("old", "young"))
    run_file.write(tmp_path / "r", opt, "1.2")
    values = run_file.read(tmp_path, "r")
    assert values["extra"] == ["a", "b"]
    assert run_file.read_facts(tmp_path, "r") == opt.facts
    assert values["max_dataset_size"] == math.inf
    assert values["preset"] is None
    assert values == {k: v for k, v in vars(opt).items() if k not in ("facts", "words")}
    assert json.loads((tmp_path / "r" / "train_opt.json").read_text())["duiit_version"] == "1.2"


@pytest.mark.parametrize("text", ["", "{", "[]", '{"options": 3}', '{"options": [1]}', "\xff"])
def test_a_damaged_run_file_is_named(run, text):
    path = run_file.Path(run[1]) / "old" / "train_opt.json"
    path.write_text(text, encoding="latin-1")
    with pytest.raises(UserError, match=r"train_opt\.json is damaged"):
        TestOptions().parse(run)


def test_an_unknown_run_is_told_with_the_nearest(run):
    with pytest.raises(UserError, match=r"--name odl: no such run under .*there are old \(did you mean old\?\)"):
        TestOptions().parse([*run[:2], "--name", "odl"])


# -- option setters of plug-ins ----------------------------------------------------------------------------------

PLUGIN = '''
from models.cycle_gan_model import CycleGANModel

def flag(text):
    if text not in ("yes", "no"):
        raise ValueError(text)
    return text == "yes"

class PlugModel(CycleGANModel):
    @staticmethod
    def modify_commandline_options(parser, is_train):
        parser = CycleGANModel.modify_commandline_options(parser, is_train)
        parser.set_defaults(norm="batch", netG="unet_128")
        parser.add_argument("--mode", choices=["slow", "fast"], default="slow")
        parser.add_argument("--nce-layers", type=int, default="4")
        parser.add_argument("--scales", type=float, nargs="+", default=[1.0])
        parser.add_argument("--idt", type=flag, nargs="?", const=True, default=False)
        parser.add_argument("--seed", type=int, default=11, help="declared by the toolkit's user, not by us")
        opt, _ = parser.parse_known_args()
        if opt.mode == "fast":
            parser.set_defaults(lambda_A=1.0, no_flip=True)
        return parser
'''


@pytest.fixture
def plugin(tmp_path, monkeypatch):
    (tmp_path / "plug_model.py").write_text(PLUGIN)
    monkeypatch.setattr(models, "__path__", [*models.__path__, str(tmp_path)])
    yield [*DATA, "--model", "plug"]
    sys.modules.pop("duiit.models.plug_model", None)


def test_a_plugins_defaults_are_defaults(plugin, preset):
    opt = TrainOptions().parse(plugin)
    assert (opt.norm, opt.netG, opt.seed, opt.lambda_A) == ("batch", "unet_128", 11, 10.0)
    assert TrainOptions().parse([*plugin, "--preset", preset('norm = "none"')]).norm == "none"
    assert TrainOptions().parse([*plugin, "--norm", "instance"]).norm == "instance"


def test_a_plugins_setter_sees_what_was_chosen(plugin, preset):
    assert TrainOptions().parse([*plugin, "--mode", "fast"]).lambda_A == 1.0
    assert TrainOptions().parse([*plugin, "--preset", preset('mode = "fast"')]).lambda_A == 1.0
    assert TrainOptions().parse([*plugin, "--mode", "fast", "--lambda_A", "7"]).lambda_A == 7.0


def test_a_plugins_options_of_every_kind(plugin, preset):
    opt = TrainOptions().parse([*plugin, "--nce_layers", "3", "--scales", "0.5", "2", "--idt"])
    assert (opt.nce_layers, opt.scales, opt.idt) == (3, [0.5, 2.0], True)
    assert TrainOptions().parse([*plugin, "--nce-layers=5", "--idt", "no"]).nce_layers == 5
    assert TrainOptions().parse(plugin).nce_layers == 4
    assert TrainOptions().parse([*plugin, "--preset", preset("scales = [3, 4]")]).scales == [3.0, 4.0]
    with pytest.raises(UserError, match="--idt: 'perhaps' is not a value"):
        TrainOptions().parse([*plugin, "--idt", "perhaps"])
