"""What quality.json and the report say about the ventricles in synthetic CTs."""
from types import SimpleNamespace

import numpy as np
import pytest

from duiit.data.phantom.anatomy import tissue_maps
from duiit.data.phantom.cohort import draw_cohort
from duiit.data.phantom.rendering import render_ct
from duiit.data.preparing.intensity import Intensity, ct_window
from duiit.data.readers.slice import SUV
from duiit_cli.experiments.reporting.report import write_report
from duiit_cli.experiments.reporting.safety import cannot, ventricle_errors, widths

BRAIN = ct_window("brain")
AGES = np.linspace(20, 80, 13)


def measured(made, slices=2):
    """ventricle_errors of ventricles that are `true` percent wide at an age and come out `made(true)` percent wide."""
    pairs = [(SimpleNamespace(patient=f"p{i}", label=age), 2 + 0.1 * age) for i, age in enumerate(AGES)]
    return ventricle_errors({"held_out": [(row, (made(true), true)) for row, true in pairs[:3] for _ in range(slices)],
                  "trained_on": [(row, (made(true), true)) for row, true in pairs[3:] for _ in range(slices)]})


def test_a_bias_is_told_in_the_labels_unit():
    found = measured(lambda true: true + 0.7)
    assert found["scale"]["slope"] == pytest.approx(0.1)
    for part, patients in (("held_out", 3), ("trained_on", 10)):
        figures = found[part]
        assert figures["patients"] == patients
        assert figures["bias_label"] == pytest.approx(7)
        assert figures["sd_label"] == pytest.approx(0, abs=1e-9)
        assert (figures["slope"], figures["off_5"], figures["off_10"]) == (pytest.approx(1), 1, 0)


def test_a_translator_that_makes_everybody_alike():
    figures = measured(lambda true: 7.0)["trained_on"]
    assert figures["slope"] == pytest.approx(0, abs=1e-9)
    assert figures["off_10"] == 0.5


def test_a_width_that_does_not_go_with_the_label_is_not_converted():
    rows = [(SimpleNamespace(patient=f"p{i}", label=age), (5.0, 5.0 + i % 2)) for i, age in enumerate(AGES)]
    found = ventricle_errors({"held_out": [], "trained_on": rows})
    assert not found["scale"]["sound"]
    assert "bias_label" not in found["trained_on"]
    assert found["trained_on"]["bias"] == pytest.approx(-6 / 13)
    few = ventricle_errors({"trained_on": rows[:4]})
    assert few["scale"] == {"n": 4}
    classes = ventricle_errors({"trained_on": [(SimpleNamespace(patient=r.patient, label="A"), w) for r, w in rows]})
    assert classes["scale"] == {"n": 0}


def test_images_are_measured_in_their_unit():
    person = draw_cohort("mri", 1, (50, 20), 0)[0]
    slices = render_ct(tissue_maps(person.head, 64, 1), person.scanner, person.rng(1), 1.0)
    image = BRAIN.normalise(slices)
    made, true = widths(image, image, BRAIN)
    assert made == true > 1
    assert widths(image, np.zeros_like(image), BRAIN) is None


def test_what_cannot_be_measured_is_said():
    assert cannot(BRAIN) is None
    assert cannot(ct_window("full")) is None
    assert "Hounsfield" in cannot(Intensity(0, 12, SUV))
    assert "0 to 90 HU" in cannot(ct_window("40,80"))
    assert "skull" in ventricle_errors({"held_out": [], "trained_on": []})["not_measured"]


def test_the_report_asks_whether_it_does_harm(folder):
    folder.plan(["pure_ct", "cyclegan_mri", "duiit_mri"], 2, ["cyclegan_mri", "duiit_mri"], label_unit="years")
    for split in range(2):
        folder.quality("cyclegan_mri", split, ventricles=measured(lambda true: true + 0.7))
        folder.quality("duiit_mri", split, ventricles={"not_measured": "the true images are not known"})
    write_report(folder.path)
    page = (folder.path / "report.html").read_text(encoding="utf-8")
    assert "Does it do harm?" in page
    assert "off by more than 5 years" in page
    assert "7.00 ± 0.00" in page
    assert "Not measured: the true images are not known." in page
    assert "never for diagnosis" in page


def test_a_report_of_before_it_was_measured_has_no_such_section(folder):
    folder.plan(["duiit_mri"], 1, ["duiit_mri"]).quality("duiit_mri", 0)
    write_report(folder.path)
    assert "Does it do harm?" not in (folder.path / "report.html").read_text(encoding="utf-8")
