"""Source images mixed in as they are (`--raw`), and what the facts of a mixture are about."""
import numpy as np
import pytest
from PIL import Image

from duiit.data.cross_modality_dataset import CrossModalityDataset
from duiit.data.labelled_dataset import LabelledDataset
from duiit.util.errors import UserError

CT_AGES, MRI_AGES, PET_AGES = [30, 40, 50, 20, 35], [60, 65, 70, 75], [50, 45]


@pytest.fixture
def labelled(options, modalities):
    def build(words="", **values):
        return LabelledDataset(options(f"--model predictor {words}", **values))
    return build


def served(dataset):
    """{modality: {patients whose images are served}}."""
    paths = [dataset[i]["B_paths"].split("/") for i in range(len(dataset))]
    return {m: {p[-2] for p in paths if p[-3] == m} for m in {p[-3] for p in paths}}


def test_raw_sources_join_the_labelled_target(labelled):
    dataset = labelled("--raw mri")
    images = served(dataset)
    assert images["mri"] == {"m0", "m1", "m2", "m3"}
    assert images["ct"] == {r.patient for r in dataset.target_part("train")} - {"c0"}
    assert all(key in dataset[0] for key in ("B", "B_label", "B_paths"))


def test_several_and_only_those_with_a_label(labelled):
    images = served(labelled("--raw mri,pet"))
    assert set(images) == {"ct", "mri", "pet"}
    assert images["pet"] == {"p0", "p2"}


def test_each_is_read_by_its_own_loader(options, labelled):
    """As a translator's source would be: an 8-bit MRI scaled scan by scan, not as a windowed CT."""
    raw = labelled("--raw mri").members["--raw mri"]
    source = CrossModalityDataset(options("--model duiit --sources mri", name="other")).members["mri"]
    theirs = {(r.file, r.index): source.cohort.image(r) for r in source.rows}
    for row in raw.rows:
        if (row.file, row.index) in theirs:
            assert np.array_equal(raw.cohort.image(row), theirs[row.file, row.index])
    assert all((r.low, r.high) != (0, 255) for r in raw.rows)


def test_colours_of_a_source_become_the_targets_channels(labelled, modalities):
    for path in (modalities / "pet").rglob("*.png"):
        Image.open(path).convert("RGB").save(path)
    assert {labelled("--raw pet")[i]["B"].shape[0] for i in range(3)} == {1}
    assert {labelled("--raw pet --output_nc 3", name="rgb")[i]["B"].shape[0] for i in range(3)} == {3}


def test_who_is_held_out_of_the_target_stays_out(labelled, modalities, cohort_on_disk, caplog):
    twins = [f"c{n}" for n in range(6)]
    cohort_on_disk(modalities / "twin", twins, [10] * 6, seed=5)
    dataset = labelled("--raw twin")
    held_out = {r.patient for part in ("val", "test") for r in dataset.target_part(part)}
    assert served(dataset)["twin"] == set(twins) - held_out
    assert f"left out {2 * len(held_out)} images" in caplog.text


def test_raw_and_extra_together(labelled, tmp_path, cohort_on_disk):
    extra = cohort_on_disk(tmp_path / "synthetic", ["x1"], [61])
    assert set(served(labelled(f"--raw mri --extra {extra}"))) == {"ct", "mri", "synthetic"}


def test_raw_alone(labelled):
    dataset = labelled("--no_target --raw mri")
    assert set(served(dataset)) == {"mri"}
    assert dataset.opt.facts.label_mean == pytest.approx(np.mean(MRI_AGES))
    assert {b.split("/")[-3] for batch in dataset.held_out("test") for b in batch["B_paths"]} == {"ct"}


# ---- facts ----------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("words", ["", "--raw mri,pet", "--no_target --raw mri", "--extra {extra}",
                                   "--no_target --extra {extra}"])
def test_the_targets_range_is_the_targets(labelled, tmp_path, cohort_on_disk, words):
    """Whatever is mixed in, and however much of it: an export and `duiit test` go by it."""
    extra = cohort_on_disk(tmp_path / "synthetic", [f"x{n}" for n in range(20)], [50] * 20)
    for path in extra.rglob("*.png"):
        Image.fromarray(np.asarray(Image.open(path)).astype(np.int32) * 3 - 100).save(path.with_suffix(".tif"))
        path.unlink()
    assert labelled(words.format(extra=extra)).opt.facts.target_range == (0, 255, "display")


def test_label_facts_are_of_all_that_is_trained_on(labelled):
    facts = labelled("--raw mri,pet --val_fraction 0 --test_fraction 0").opt.facts
    ages = CT_AGES + MRI_AGES
    labels = np.repeat(ages, 2).tolist() + PET_AGES                 # two slices a patient in ct and mri, one in pet
    assert facts.labels_known == len(labels)
    assert (facts.label_mean, facts.label_std) == pytest.approx((np.mean(labels), np.std(labels)))


# ---- refusals -------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize(("words", "message"), [
    ("--raw spect", "--raw spect: spect is not a folder of .*there are mri, pet"),
    ("--raw mri,spect", "--raw mri,spect: spect is not a folder"),
    ("--raw mri,", "an empty name is not a folder"),
    ("--raw ct", "--raw ct: ct is the target"),
    ("--raw pet,ct", "--raw pet,ct: ct is the target"),
    ("--no_target", "--no_target.*--extra.*--raw")])
def test_wrong_names_are_refused(labelled, words, message):
    with pytest.raises(UserError, match=message):
        labelled(words)
