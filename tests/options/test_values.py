"""What an option takes, and what is refused: the message names the option and what to do."""
import argparse

import pytest

from duiit.options import CheckOptions, PhantomOptions, PredictOptions, TrainOptions
from duiit.util.bounds import FRACTION, POSITIVE, Bounded
from duiit.util.errors import UserError

DATA = ["--dataroot", "somewhere", "--device", "cpu"]


def train(*words):
    return TrainOptions().parse([*DATA, *words])


def complaint(*words, options=TrainOptions):
    with pytest.raises(UserError) as caught:
        options().parse([*(DATA if options is TrainOptions else ()), *words])
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("words", [("--lambda_pred", "0.1"), ("--lambda-pred", "0.1"), ("--lambda-pred=0.1",),
                                   ("--lambda_pred=0.1",)])
def test_dashes_and_underscores_are_one(words):
    assert train(*words).lambda_pred == 0.1


def test_only_names_are_respelled_not_values():
    opt = train("--name", "a-b", "--sources=t1-gd", "--slices", "0.3-0.8")
    assert (opt.name, opt.sources, opt.slices) == ("a-b", "t1-gd", "0.3-0.8")


def test_values_may_begin_with_a_minus_and_a_digit():
    opt = train("--gpu_ids", "-1", "--ct_window", "-100,400")
    assert (opt.gpu_ids, opt.ct_window) == ([], "-100,400")


def test_upper_case_names_reach_the_options():
    opt = train("--netG", "unet_128", "--netD", "pixel", "--lambda_A", "5", "--lr_P", "0.1", "--netP", "resnet10")
    assert (opt.netG, opt.netD, opt.lambda_A, opt.lr_P, opt.netP) == ("unet_128", "pixel", 5.0, 0.1, "resnet10")


def test_lists_gather():
    assert train("--model", "predictor").extra == []
    assert train("--model", "predictor", "--extra", "a", "--extra=b").extra == ["a", "b"]


@pytest.mark.parametrize(("word", "nearest"), [
    ("--lamda_pred=1", "--lambda_pred"), ("--lamda-pred", "--lambda_pred"), ("--crop-sise", "--crop_size"),
    ("--batchsize", "--batch_size")])
def test_an_unknown_option_is_told_with_the_nearest(word, nearest):
    assert complaint(word) == f"unknown option {word.partition('=')[0]} (did you mean {nearest}?)"


def test_an_abbreviation_is_no_option():
    assert "unknown option --lambda_pre (did you mean --lambda_pred?)" in complaint("--lambda_pre", "1")


def test_a_model_s_option_is_unknown_to_the_others():
    assert "unknown option --guidance" in complaint("--model", "predictor", "--guidance", "real")
    assert "unknown option --weight_decay" in complaint("--weight_decay", "1")


def test_a_stray_word_is_told():
    assert complaint("mri").startswith("unexpected word 'mri'")


@pytest.mark.parametrize(("words", "told"), [
    (("--lr", "fast"), "--lr: 'fast' is not a number"),
    (("--lambda_A", "ten"), "--lambda_A: 'ten' is not a number"),
    (("--batch_size", "1.5"), "--batch_size: '1.5' is not a whole number"),
    (("--batch_size", "0"), "--batch_size: 0 is out of range, it must be at least 1"),
    (("--lr", "-1"), "--lr: -1 is out of range"),
    (("--lr", "nan"), "--lr: nan is out of range"),
    (("--seed", "-1"), "--seed: -1 is out of range"),
    (("--seed", "5000000000"), "--seed: 5000000000 is out of range"),
    (("--max_dataset_size", "0"), "--max_dataset_size: 0 is out of range"),
    (("--val_fraction", "1"), "--val_fraction: 1 is out of range, it must be at least 0 and below 1"),
    (("--direction", "AtoC"), "--direction: 'AtoC' is not one of AtoB, BtoA (did you mean AtoB?)"),
    (("--guidance", "joit"), "--guidance: 'joit' is not one of joint, real, detached (did you mean joint?)"),
    (("--lr",), "--lr: expected one argument"),
    (("--lr", "--no_flip"), "--lr: expected one argument"),
    (("--no_flip=yes",), "--no_flip: ignored explicit argument 'yes'"),
    (("--model", "ciclegan"), "--model ciclegan: no such model; there are cycle_gan, dann, duiit, "
     "multitask, predictor"),
    (("--dataset_mode", "x/y"), "--dataset_mode x/y: no such data set; there are cross_modality, "),
    (("--preset", "phantm"), "--preset phantm: no such preset or .toml file; the presets are"),
    (("--preset", "phantm"), "(did you mean phantom?)"),
])
def test_a_wrong_value_is_told_with_its_option(words, told):
    assert told in complaint(*words)


@pytest.mark.parametrize(("words", "told"), [
    (("--crop_size", "300"), "--crop_size 300 is larger than --load_size 286"),
    (("--val_fraction", "0.5", "--test_fraction", "0.5"), "--val_fraction and --test_fraction"),
    (("--epoch_count", "500"), "--n_epochs 100 and --n_epochs_decay 100 end before --epoch_count 500"),
    (("--name", ""), "--name is empty"),
    (("--suffix", "{nothing}"), "--suffix {nothing}: cannot be filled in"),
    (("--suffix", "{"), "--suffix {: cannot be filled in"),
    (("--device", "gpu"), "--device gpu: give auto, cpu, cuda, cuda:N or mps"),
    (("--device", "cuda:99"), "--device cuda:99: this machine has no such device"),
    (("--gpu_ids", "first"), "--gpu_ids first: give numbers"),
])
def test_values_that_cannot_work_together_or_here(words, told):
    assert told in complaint(*words)


def test_a_crop_is_not_measured_against_a_size_that_is_not_used():
    assert train("--preprocess", "crop", "--load_size", "64", "--crop_size", "128").crop_size == 128
    assert CheckOptions().parse(["somewhere", "--load_size", "64"]).load_size == 64


def test_the_suffix_is_filled_in():
    assert train("--name", "a", "--suffix", "{model}_{ngf}").name == "a_duiit_64"


def test_a_folder_is_needed_and_may_be_a_bare_word_of_the_check():
    assert "--dataroot is missing" in complaint(options=CheckOptions)
    assert "--dataroot is missing" in str(pytest.raises(UserError, TrainOptions().parse, []).value)
    for words in (["D"], ["--strict", "D"], ["D", "--strict"], ["--dataroot", "D"]):
        assert CheckOptions().parse(words).dataroot == "D"
    assert "unexpected word 'E'" in complaint("D", "E", options=CheckOptions)


def test_phantom_ages():
    opt = PhantomOptions().parse(["--ct_age", "50,3.5"])
    assert (opt.ct_age, opt.mri_age) == ((50.0, 3.5), (55.0, 16.0))
    assert "--ct_age: 'old' is not MEAN,SD" in complaint("--ct_age", "old", options=PhantomOptions)


def test_predict_writes_csv_or_json_only(tmp_path, trained):
    words = ["--checkpoints_dir", str(trained), "--name", "demo", "--device", "cpu"]
    assert "--input is missing" in complaint(*words, options=PredictOptions)
    assert "ends in .csv or .json" in complaint(*words, "--input", "x", "--output", "ages.txt", options=PredictOptions)


# -- presets -----------------------------------------------------------------------------------------------------

@pytest.mark.parametrize(("text", "told"), [
    ("lamda_pred = 1", "unknown option lamda_pred with --model duiit (did you mean lambda_pred?)"),
    ("ngf = 8.0", "ngf: 8.0 is not a whole number"),
    ("ngf = true", "ngf: True is not a whole number"),
    ("ngf = '8'", "ngf: '8' is not a whole number"),
    ("ngf = 0", "ngf: 0 is out of range"),
    ("lr = 'slow'", "lr: 'slow' is not a number"),
    ("no_flip = 1", "no_flip: 1 is not true or false"),
    ("netG = 9", "netG: 9 is not text in quotes"),
    ("guidance = 'joit'", "guidance: 'joit' is not one of joint, real, detached (did you mean joint?)"),
    ("preset = 'phantom'", "unknown option preset"),
    ("[train]\nlr = 1", "unknown table [train]; there are method, translator, start, predictor"),
    ("model = 'nosuch'", "--model nosuch: no such model"),
    ("model = 3", "--model 3: no such model"),
    ("ngf = ", "not readable as TOML"),
    ("ngf = 8\nngf = 9", "not readable as TOML"),
])
def test_a_wrong_preset_is_told_with_its_key(tmp_path, text, told):
    path = tmp_path / "mine.toml"
    path.write_text(text)
    message = complaint("--preset", str(path))
    assert told in message
    assert message.startswith(("--preset", "--model"))


def test_a_preset_s_lists_and_whole_numbers_for_numbers(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text('model = "predictor"\nextra = ["a", "b"]\nlr = 1\nmax_dataset_size = inf\nno-flip = true\n')
    opt = train("--preset", str(path))
    assert (opt.extra, opt.lr, opt.no_flip) == (["a", "b"], 1.0, True)
    path.write_text('model = "predictor"\nextra = "a"\n')
    assert "extra: 'a' is not a list" in complaint("--preset", str(path))


def test_every_preset_that_is_shipped_can_be_parsed():
    from duiit.options import presets
    choosing = [name for name in presets.names() if "choose" in presets.read(name).get("method", {})]
    for name in set(presets.names()) - set(choosing):
        assert train("--preset", name).dataroot == "somewhere"
        assert train("--preset", name, "--model", "predictor").model == "predictor"
    assert choosing == ["chosen_mri", "chosen_mri_pet", "chosen_pet"]
    for name in choosing:
        assert "trains nothing of its own" in complaint("--preset", name)


# -- number types ------------------------------------------------------------------------------------------------

def test_bounds_are_kept():
    assert (POSITIVE("1"), FRACTION("0"), Bounded(float, 0, 1)("1")) == (1, 0.0, 1.0)
    for kind, text in ((POSITIVE, "0"), (FRACTION, "1"), (FRACTION, "nan"), (FRACTION, "inf"), (FRACTION, "-0.1")):
        with pytest.raises(argparse.ArgumentTypeError, match="out of range"):
            kind(text)
