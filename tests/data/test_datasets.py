"""What the data sets serve: items, parts of the split, order and augmentation that follow from (seed, epoch, index)."""
import numpy as np
import pytest
import torch
from PIL import Image

from duiit import data
from duiit.data import create_dataset, find_dataset_using_name, readers
from duiit.data.cross_modality_dataset import CrossModalityDataset
from duiit.data.labelled_dataset import LabelledDataset
from duiit.data.preparing import cohort
from duiit.data.unaligned_dataset import UnalignedDataset
from duiit.util.errors import UserError


@pytest.fixture
def cross(options, modalities):
    def build(words="", **values):
        return CrossModalityDataset(options(f"--model duiit {words}", **values))
    return build


@pytest.fixture
def labelled(options, modalities):
    def build(words="", **values):
        return LabelledDataset(options(f"--model predictor {words}", **values))
    return build


def same(a, b):
    return a.keys() == b.keys() and all(
        torch.equal(torch.nan_to_num(v), torch.nan_to_num(b[k])) if isinstance(v, torch.Tensor) else v == b[k]
        for k, v in a.items())


def patients(rows):
    return {r.patient for r in rows}


# ---- finding them ---------------------------------------------------------------------------------------------------

def test_data_sets_are_found_by_name():
    assert find_dataset_using_name("cross_modality") is CrossModalityDataset
    assert {"cross_modality", "labelled", "unaligned"} <= set(data.dataset_names())
    for name in ("cross_modalty", "base", "../labelled"):
        with pytest.raises(UserError, match="--dataset_mode"):
            find_dataset_using_name(name)


# ---- cross_modality -------------------------------------------------------------------------------------------------

def test_an_item_of_one_source(cross):
    dataset = cross("--sources mri")
    item = dataset[0]
    assert sorted(item) == ["A", "A_label", "A_paths", "B", "B_label", "B_paths"]
    for key in "AB":
        assert item[key].shape == (1, 16, 16) and item[key].dtype == torch.float32 and item[key].abs().max() <= 1
        assert item[f"{key}_label"].shape == () and item[f"{key}_label"].dtype == torch.float32
    assert "/mri/" in item["A_paths"] and "/ct/" in item["B_paths"]
    assert dataset.opt.sources == "mri" and dataset.opt.target == "ct"


def test_an_item_of_several_sources(cross):
    dataset = cross()
    assert dataset.sources == ["mri", "pet"] and dataset.opt.sources == "mri,pet"
    assert sorted(dataset[0]) == sorted(["B", "B_label", "B_paths"] + [
        f"A_{s}{x}" for s in ("mri", "pet") for x in ("", "_label", "_paths")])


def test_labels_belong_to_their_images(cross):
    dataset = cross()
    ages = {"m0": 60, "m1": 65, "m2": 70, "m3": 75, "c0": None, "c1": 30, "c2": 40, "c3": 50, "c4": 20, "c5": 35}
    for index in range(len(dataset)):
        item = dataset[index]
        for key in ("A_mri", "B"):
            age = ages[item[f"{key}_paths"].split("/")[-2]]
            label = float(item[f"{key}_label"])
            assert np.isnan(label) if age is None else label == age


def test_an_epoch_covers_the_first_source_and_pairs_anew(cross):
    dataset = cross("--sources mri")
    assert len(dataset) == max(len(m) for m in dataset.members.values())
    sources = {dataset[i]["A_paths"] for i in range(len(dataset))}
    assert len(sources) == min(len(dataset), len(dataset.members["mri"]))
    partners = set()
    for epoch in range(12):
        dataset.set_epoch(epoch)
        partners.add(dataset[0]["B_paths"])
    assert len(partners) > 3
    dataset.opt.serial_batches = True
    assert dataset[1]["B_paths"] == str(dataset.members["ct"].folder / dataset.members["ct"].rows[1].file)


def test_an_item_follows_from_seed_epoch_and_index(cross):
    dataset = cross()
    first = dataset[3]
    dataset[1]
    assert same(dataset[3], first)
    dataset.set_epoch(1)
    assert not same(dataset[3], first)
    dataset.set_epoch(0)
    assert same(cross()[3], first) and not same(cross("--seed 1")[3], first)


def test_parts_share_no_patient_and_training_sees_its_own_only(cross, tmp_path):
    dataset = cross()
    parts = {p: patients(dataset.target_part(p)) for p in ("train", "val", "test")}
    assert sum(map(len, parts.values())) == 6 and all(parts.values())
    assert patients(dataset.members["ct"].rows) == parts["train"]
    shown = {item["B_paths"].split("/")[-2] for item in (dataset[i] for i in range(len(dataset)))}
    assert shown <= parts["train"]
    held_out = {path.split("/")[-2] for batch in dataset.held_out("val") for path in batch["B_paths"]}
    assert held_out == parts["val"]
    assert (tmp_path / "runs" / "run" / "split.csv").is_file()


def test_testing_serves_whole_images_of_the_test_part(cross):
    trained = cross("--sources mri")
    tested = cross("--sources mri", isTrain=False, phase="test")
    assert patients(tested.members["ct"].rows) == patients(trained.target_part("test"))
    assert tested[0]["B"].shape == (1, 20, 20)


def test_the_model_is_told_of_the_training_labels(cross):
    dataset = cross("--sources mri")
    known = [r.label for m in dataset.members.values() for r in m.rows if r.label is not None]
    facts = dataset.opt.facts
    assert (facts.labels_known, facts.target_range) == (len(known), (0, 255, "display"))
    assert (facts.label_mean, facts.label_std) == pytest.approx((np.mean(known), np.std(known)))


def test_8_bit_sources_are_scaled_scan_by_scan_and_8_bit_cts_are_not(options, tmp_path, cohort_on_disk):
    """Somebody windowed the CT on purpose; an MRI's or PET's grey values mean nothing from one scan to the next."""
    root = tmp_path / "data"
    for modality in ("ct", "mri", "pet"):
        cohort_on_disk(root / modality, ["a", "b", "c"])
        for path in (root / modality).rglob("*.png"):
            Image.fromarray(np.asarray(Image.open(path)) // 4 + 30).save(path)          # 30 to 93
    dataset = CrossModalityDataset(options("--model duiit --source_test_fraction 0"))
    ranges = {m: {(round(r.low), round(r.high)) for r in d.rows} for m, d in dataset.members.items()}
    assert ranges["ct"] == {(0, 255)}
    assert all(low in (30, 31) and high in (92, 93) for m in ("mri", "pet") for low, high in ranges[m])


def test_no_scan_is_decoded_twice(cross, monkeypatch):
    names, read = [], readers.read_scan
    monkeypatch.setattr(cohort.readers, "read_scan", lambda s: names.append(str(s.root / s.name)) or read(s))
    dataset = cross()
    for i in range(len(dataset)):
        dataset[i]
    list(dataset.held_out("val"))
    assert len(names) == 13 and len(set(names)) == 13


@pytest.mark.parametrize("words, message", [
    ("--target spect", "--target spect.*it holds ct, mri, pet"),
    ("--sources mri,spect", "--sources mri,spect: spect is not a folder"),
    ("--sources mri,ct", "ct is the target"),
    ("--direction BtoA", "--direction BtoA.*--target and --sources"),
])
def test_wrong_roles_are_refused(cross, words, message):
    with pytest.raises(UserError, match=message):
        cross(words)


def test_a_source_whose_patients_are_all_held_out_is_refused(cross, modalities, cohort_on_disk):
    held_out = patients(cross("--sources mri").target_part("test"))
    cohort_on_disk(modalities / "twin", sorted(held_out))
    with pytest.raises(UserError, match="twin: no image is left to train on"):
        cross("--sources twin")


def test_mixed_sizes_need_a_crop_or_single_images(cross, modalities, cohort_on_disk):
    cohort_on_disk(modalities / "wide", ["w0", "w1", "w2"], size=(20, 28))
    cohort_on_disk(modalities / "wide" / "more", ["w3", "w4", "w5"], size=(24, 28))
    with pytest.raises(UserError, match="wide: --preprocess none leaves images of 20x28 and 24x28.*--batch_size 1"):
        cross("--sources wide --preprocess none")
    assert cross("--sources wide --preprocess none --batch_size 1")[0]["A"].shape[-1] == 28


def test_no_image_is_repeated_in_a_target_split_by_image(cross):
    dataset = cross("--split_by image --test_fraction 0.3")
    files = [{r.file for r in dataset.target_part(p)} for p in ("train", "val", "test")]
    assert sum(map(len, files)) == len(set.union(*files)) == 12


# ---- the loader -----------------------------------------------------------------------------------------------------

def batches(opt, epochs=(1,), skip=0):
    loader = create_dataset(opt)
    served = []
    for epoch in epochs:
        loader.set_epoch(epoch, skip)
        served += list(loader)
    return served


def test_loader_processes_change_nothing(options, modalities):
    alone = batches(options("--model duiit"), (1, 2))
    helped = batches(options("--model duiit", num_threads=2), (1, 2))
    assert len(alone) == len(helped) == 2 * (len(create_dataset(options("--model duiit"))) // 2)
    assert all(same(a, b) for a, b in zip(alone, helped, strict=True))


def test_an_epoch_can_be_entered_in_the_middle(options, modalities):
    opt = options("--model duiit")
    whole, rest = batches(opt, (3,)), batches(opt, (3,), skip=1)
    assert len(rest) == len(whole) - 1 and all(same(a, b) for a, b in zip(whole[1:], rest, strict=True))


def test_order_is_shuffled_anew_each_epoch_unless_serial(options, modalities):
    def order(epoch, words=""):
        return [p for b in batches(options(f"--model predictor {words}"), (epoch,)) for p in b["B_paths"]]
    assert order(1) != order(2) and order(1) == order(1)
    assert order(1, "--serial_batches") == order(2, "--serial_batches") == sorted(order(1, "--serial_batches"))


def test_an_epoch_of_a_given_number_of_steps(options, modalities):
    opt = options("--model predictor --steps_per_epoch 9 --batch_size 3")
    served = batches(opt)
    assert len(served) == create_dataset(opt).batches == 9
    assert all(same(a, b) for a, b in zip(served[4:], batches(opt, skip=4), strict=True))
    every = create_dataset(opt).dataset
    seen = [p for b in served for p in b["B_paths"]]
    assert set(seen) == {every[i]["B_paths"] for i in range(len(every))}
    assert max(map(seen.count, seen)) - min(map(seen.count, seen)) <= 1


def test_length_batches_and_limits(options, modalities):
    loader = create_dataset(options("--model predictor --batch_size 3"))
    assert loader.batches == len(list(loader)) == len(loader) // 3          # a rest of one would break batch norm
    limited = create_dataset(options("--model predictor --max_dataset_size 3 --batch_size 16"))
    assert len(limited) == 3 and limited.batches == len(list(limited)) == 1


# ---- labelled -------------------------------------------------------------------------------------------------------

def test_labelled_serves_target_images_that_have_a_label(labelled):
    dataset = labelled("--val_fraction 0 --test_fraction 0.2")
    items = [dataset[i] for i in range(len(dataset))]
    assert all(sorted(i) == ["B", "B_label", "B_paths"] and not torch.isnan(i["B_label"]) for i in items)
    assert {i["B_paths"].split("/")[-2] for i in items} == patients(dataset.target_part("train")) - {"c0"}


@pytest.fixture
def extra(tmp_path, cohort_on_disk):
    """Translated images: of somebody else, of everybody in ct, and of one without a label."""
    names = ["x1", "c0", "c1", "c2", "c3", "c4", "c5", "x2"]
    return cohort_on_disk(tmp_path / "synthetic", names, [61, 1, 30, 40, 50, 20, 35, None], seed=9)


def test_extras_join_the_training_and_who_is_held_out_stays_out(labelled, extra, caplog):
    dataset = labelled(f"--extra {extra}")
    held_out = patients(dataset.target_part("val")) | patients(dataset.target_part("test"))
    from_extra = {dataset[i]["B_paths"].split("/")[-2] for i in range(len(dataset))
                  if str(extra) in dataset[i]["B_paths"]}
    assert from_extra == {"x1", "c0", "c1", "c2", "c3", "c4", "c5"} - held_out and len(held_out) == 2
    assert f"left out {2 * len(held_out)} images" in caplog.text
    tested = {path.split("/")[-2] for batch in dataset.held_out("test") for path in batch["B_paths"]}
    assert tested == patients(dataset.target_part("test"))


def test_extras_alone(labelled, extra):
    dataset = labelled(f"--no_target --extra {extra}")
    assert all(str(extra) in dataset[i]["B_paths"] for i in range(len(dataset)))
    assert len(dataset.target_part("train")) == 8 and dataset.opt.facts.label_mean != 0
    with pytest.raises(UserError, match="--no_target.*--extra"):
        labelled("--no_target")


def test_an_extra_named_like_the_target_does_not_take_its_place(labelled, extra, monkeypatch, tmp_path):
    extra.rename(tmp_path / "ct")
    monkeypatch.chdir(tmp_path)
    dataset = labelled("--extra ct")
    assert dataset.members["ct"].folder == tmp_path / "data" / "ct" and len(dataset.members) == 2


@pytest.mark.parametrize("words, message", [("--extra nowhere", "--extra nowhere: no such folder"),
                                            ("--target spect", "--target spect.*holds ct, mri, pet")])
def test_wrong_folders_are_refused(labelled, words, message):
    with pytest.raises(UserError, match=message):
        labelled(words)


def test_a_target_without_labels_is_refused(labelled, modalities):
    (modalities / "ct" / "labels.csv").unlink()
    with pytest.raises(UserError, match="ct: no training image has a label"):
        labelled()


def test_classes_are_numbered_by_name(labelled, modalities):
    labels = modalities / "ct" / "labels.csv"
    labels.write_text("patient,label\n" + "".join(f"c{i},{'ba'[i % 2]}\n" for i in range(6)))
    dataset = labelled("--task classification")
    assert dataset.opt.facts.classes == ("a", "b")
    for i in range(len(dataset)):
        item = dataset[i]
        assert int(item["B_label"]) == 1 - int(item["B_paths"].split("/")[-2][1]) % 2
    labels.write_text("patient,label\n" + "".join(f"c{i},a\n" for i in range(6)))
    with pytest.raises(UserError, match="every label is 'a'"):
        labelled("--task classification")


# ---- unaligned ------------------------------------------------------------------------------------------------------

@pytest.fixture
def toolkit(options, tmp_path, cohort_on_disk):
    """trainA trainB testA testB with one labels.csv beside them."""
    root = tmp_path / "data"
    for seed, (folder, names) in enumerate((("trainA", "uv"), ("trainB", "wx"), ("testA", "y"), ("testB", "z"))):
        cohort_on_disk(root / folder, names, seed=seed)
    (root / "labels.csv").write_text("patient,label\nu,1\nv,2\nw,3\nx,4\ny,5\nz,6\n")

    def build(words="", **values):
        return UnalignedDataset(options(f"--model duiit --dataset_mode unaligned {words}", **values))
    return build


def test_folders_say_the_part(toolkit):
    dataset = toolkit()
    item = dataset[0]
    assert "trainA" in item["A_paths"] and "trainB" in item["B_paths"]
    assert item["A_label"] in (1, 2) and item["B_label"] in (3, 4)
    assert patients(dataset.target_part("test")) == {"z"} and dataset.target_part("val") == []
    assert dataset.opt.sources == "A" and dataset.opt.target == "B"
    tested = toolkit(isTrain=False, phase="test")
    assert "testA" in tested[0]["A_paths"] and len(tested) == 2


def test_backwards_the_roles_change_and_the_letters_stay(toolkit):
    dataset = toolkit("--direction BtoA --input_nc 3 --output_nc 1")
    assert (dataset.target, dataset.sources) == ("A", ["B"])
    item = dataset[0]
    assert "trainA" in item["A_paths"] and item["A"].shape[0] == 1         # the target: output_nc
    assert "trainB" in item["B_paths"] and item["B"].shape[0] == 3
    assert patients(dataset.target_part("train")) == {"u", "v"}


def test_flat_folders_and_labels_by_file(toolkit, options, tmp_path):
    root = tmp_path / "data"
    for folder in ("trainA", "trainB"):
        for patient in (p for p in (root / folder).iterdir() if p.is_dir()):
            for image in patient.iterdir():
                image.rename(root / folder / f"{patient.name}_{image.name}")
            patient.rmdir()
    (root / "labels.csv").write_text("file,label\ntrainA/u_1.png,7\ntrainB/w_2.png,8\n")
    dataset = toolkit()
    labels = {r.file: r.label for r in (*dataset.members["A"].rows, *dataset.members["B"].rows)}
    assert labels["trainA/u_1.png"] == 7 and labels["trainB/w_2.png"] == 8 and labels["trainA/u_2.png"] is None
    assert patients(dataset.members["A"].rows) == {"u", "v"}


def test_a_missing_folder_is_named(options, tmp_path, cohort_on_disk):
    cohort_on_disk(tmp_path / "data" / "trainA", ["u"])
    with pytest.raises(UserError, match="no folder trainB"):
        UnalignedDataset(options("--model duiit --dataset_mode unaligned"))
