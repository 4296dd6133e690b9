"""What a predictor learns from is what the translator made: nothing is lost on the way through the files."""
from pathlib import Path

import numpy as np
import pytest

from duiit.data import create_dataset
from duiit.data.preparing import transforms
from duiit.options import TestOptions, TrainOptions
from duiit_cli.inference.networks import load_model, own_scans, read, translate

ROUNDING = 1 / 32767                    # 16 bits in the file, 16 bits in the prepared cohort: half a step each


@pytest.fixture(scope="module")
def large(draw_phantom):
    """A phantom whose own size is none of the sizes that networks see. Tests must not change it."""
    return draw_phantom(ct=5, mri=5, pet=5, size=48)


# Targets in HU, grey values and SUV; sources that are single images, volumes and DICOM series.
@pytest.mark.slow
@pytest.mark.parametrize("source, target, channels, preprocess", [
    ("mri", "ct", 3, "resize_and_crop"), ("pet", "ct", 1, "none"), ("ct", "mri", 3, "scale_width_and_crop"),
    ("mri", "pet", 1, "crop"), ("pet", "ct", 1, "resize_and_crop --spacing 6.5"),
    ("ct", "pet", 1, "none --spacing 7.5")])
def test_a_predictor_reads_what_the_translator_made(tmp_path, duiit, large, tiny, source, target, channels, preprocess):
    data = ["--dataroot", large, "--target", target, "--preset", tiny, "--load_size", 32, "--crop_size", 24,
            "--preprocess", *preprocess.split(), "--output_nc", channels, "--checkpoints_dir", tmp_path]
    assert duiit("train", *data, "--sources", source, "--name", "demo", "--max_steps", 1) == 0
    run = ["--checkpoints_dir", tmp_path, "--name", "demo"]
    assert duiit("translate", *run, "--input", large / source, "--output", tmp_path / "fake", "--for_training") == 0

    made = translations(run, source)
    words = [*data, "--model", "predictor", "--extra", tmp_path / "fake", "--no_target", "--name", "mix"]
    dataset = create_dataset(TrainOptions().parse([str(w) for w in words])).dataset
    opt, rows = dataset.opt, [member.rows[i] for member, i in dataset.flat]
    assert len(rows) >= 8
    for index, row in enumerate(rows):
        image = made[row.patient, Path(row.file).stem]
        choices = transforms.draw(image.shape, opt, np.random.default_rng([opt.seed, dataset.epoch, index]))
        np.testing.assert_allclose(dataset[index]["B"], transforms.apply(image, choices, opt), atol=1.1 * ROUNDING)


def translations(run, source):
    """{(patient, name of the image, or number in its volume): netG of it, prepared}, straight from the network."""
    opt = TestOptions().parse([str(w) for w in run])
    net = load_model(opt, "translator").translator(source)
    made = {}
    for scan in own_scans(opt, source):
        prepared = read(scan, source, opt.input_nc, opt)
        for s, image in zip(prepared.slices, translate(net, prepared.images, opt, "cpu"), strict=True):
            made[scan.patient, f"{s.index + 1:03d}" if scan.kind == "nifti" else s.path.stem] = image
    return made


def test_another_format_beside_it_is_refused(tmp_path, refused, phantom, trained):
    assert "--format nifti" in refused("translate", "--checkpoints_dir", trained, "--name", "demo", "--for_training",
                                       "--input", phantom / "mri", "--output", tmp_path / "x", "--format", "nifti")
