"""The study of real patients, on a small made-up folder that is laid out as its data set: who plays which role, who is
left out, what the images and labels are, and what the table keeps and says."""
import csv
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from duiit.util.errors import UserError

HERE = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def study():
    """The modules of the study, found as they are when the script is run."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(HERE))
        from lgg import layout, table
        yield layout, table


@pytest.fixture(scope="module")
def kaggle(tmp_path_factory, duiit):
    """12 patients of two slices: the first one's post-contrast channel is FLAIR, the second has an empty slice, and the
    last has no age."""
    folder = tmp_path_factory.mktemp("lgg")
    assert duiit("data", "phantom", "--output", folder / "phantom", "--size", 32, "--slices", 2, "--ct_patients", 0,
                 "--mri_patients", 12, "--pet_patients", 0) == 0
    root = folder / "phantom/mri/kaggle_3m"
    patients = sorted(p for p in root.iterdir() if p.is_dir())
    for path in patients[0].glob("*[0-9].tif"):
        pixels = tifffile.imread(path)
        pixels[..., 2] = pixels[..., 1]
        tifffile.imwrite(path, pixels, photometric="rgb")
    empty = next(iter(patients[1].glob("*_1.tif")))
    tifffile.imwrite(empty, np.zeros_like(tifffile.imread(empty)), photometric="rgb")
    return root


@pytest.fixture(scope="module")
def pool(study, kaggle, tmp_path_factory):
    return study[0].write_pool(kaggle, tmp_path_factory.mktemp("work") / "pool")


def test_who_lacks_an_age_or_a_contrast_is_left_out_and_counted(study, pool):
    layout = study[0]
    assert pool.left_out == {layout.NO_AGE: ["PHANTOM_HD_0012"], layout.NO_TARGET: ["PHANTOM_HD_0001"]}
    assert sorted(pool.ages) == [f"PHANTOM_HD_{n:04d}" for n in range(2, 12)]
    assert (pool.slices, pool.empty) == (19, 1)
    assert "10 patients with both contrasts and an age, 19 slices" in layout.describe(pool)


def test_contrasts_are_the_channels_scaled_patient_by_patient(study, kaggle, pool):
    original = tifffile.imread(kaggle / "PHANTOM_HD_0005_20000101/PHANTOM_HD_0005_20000101_2.tif").astype(float)
    for contrast, channel in (("flair", 1), ("t1gd", 2)):
        image = np.asarray(Image.open(pool.folder / contrast / "PHANTOM_HD_0005/2.png")).astype(float)
        assert image.shape == (32, 32) and image.max() == 255
        inside = (image > 0) & (image < 255)
        assert np.corrcoef(image[inside], original[..., channel][inside])[0, 1] > 0.999


def test_roles_are_disjoint_and_drawn_from_the_seed(study, pool):
    layout = study[0]
    drawn = [layout.draw_roles(pool.ages, seed, 4, 2, 1) for seed in range(5)]
    for roles in drawn:
        assert len(roles["target"]) == 7 and len(roles["source"]) == 3
        assert set(roles["target"]) | set(roles["source"]) == set(pool.ages)
    assert drawn[0] == layout.draw_roles(dict(reversed(pool.ages.items())), 0, 4, 2, 1)
    assert len({tuple(roles["source"]) for roles in drawn}) > 1
    with pytest.raises(UserError, match="10 usable patients are too few"):
        layout.draw_roles(pool.ages, 0, 6, 3)


def test_folders_hold_images_labels_and_the_truth(study, pool, tmp_path):
    layout = study[0]
    roles = layout.draw_roles(pool.ages, 0, 4, 3)
    root = layout.write_roles(pool, roles, tmp_path / "roles")
    for place, contrast, role in (("flair", "flair", "source"), ("t1gd", "t1gd", "target"),
                                  ("truth/flair", "t1gd", "source")):
        with (root / place / "labels.csv").open(newline="") as file:
            assert {r["patient"]: float(r["age"]) for r in csv.DictReader(file)} == {p: pool.ages[p]
                                                                                      for p in roles[role]}
        assert sorted(p.name for p in (root / place).iterdir() if p.is_dir()) == roles[role]
        for path in (root / place).rglob("*/*.png"):
            assert path.read_bytes() == (pool.folder / contrast / path.parent.name / path.name).read_bytes()


@pytest.mark.slow
def test_the_data_are_read_as_an_experiment_reads_them(study, pool, tmp_path, duiit, tiny):
    layout = study[0]
    root = layout.write_roles(pool, layout.draw_roles(pool.ages, 0, 4, 3), tmp_path / "roles")
    assert duiit("experiment", "--dataroot", root, "--target", "t1gd", "--output", tmp_path / "out", "--preset", tiny,
                 "--splits", 1, "--val_fraction", 0, "--test_fraction", 3 / 7, "--methods", "pure_ct") == 0
    row, = study[1].gather(tmp_path / "out", 4, 1, "abc")
    assert study[1].key(row) == (4, 1, "patient", "pure_ct")
    assert (row["train_patients"], row["val_patients"], row["test_patients"]) == (4, 0, 3)
    assert row["mse_patient"] > 0 and row["floor_mse_patient"] > 0
    path = tmp_path / "cells.csv"
    study[1].write(path, [row])
    assert study[1].read(path, "abc") == [row]
    with pytest.raises(UserError, match="other sizes"):
        study[1].read(path, "abd")


def cells(**errors):
    """Rows of two role seeds; errors: {method: (mse of each)}, the floor being 100."""
    return [{"role_seed": seed, "split": 0, "split_by": "patient", "method": method, "mse_patient": mse,
             "mse_image": mse, "mae_patient": 8.0, "floor_mse_patient": 100.0, "floor_mse_image": 100.0,
             "floor_mae_patient": 8.0, "train_images": 8, "train_patients": 4, "test_images": 6, "test_patients": 3,
             "paired_mae": None, "paired_over": ""}
            for method, values in errors.items() for seed, mse in enumerate(values)]


def test_summary_sets_every_method_against_the_floor_and_the_baseline(study):
    text = study[1].summary(cells(pure_ct=(90.0, 110.0), duiit_flair=(80.0, 90.0)))
    line = next(x for x in text.splitlines() if "DUIIT" in x)
    assert [x.strip() for x in line.split("|")[2:6]] == ["2", "85.0 ± 7.1", "85.0 ± 7.1", "8.00 ± 0.00"]
    assert "| 0.85 | -15 (" in line
    assert "trained on 8 images of 4 target patients, tested on 6 of 3" in text
    assert study[1].summary([]) == "The table holds no cell yet."
