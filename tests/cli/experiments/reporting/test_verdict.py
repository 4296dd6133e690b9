"""The verdicts say what the numbers bear out, and no more."""
import re

import pytest

from duiit_cli.experiments.reporting.results import Experiment
from duiit_cli.experiments.reporting.verdict import AGAINST, NOT_SUPPORTED, OPEN, SUPPORTED, verdicts


def judged(folder):
    (found,) = verdicts(Experiment(folder.path))
    return found


def test_a_clear_gain_is_supported(folder):
    found = judged(folder.filled(pure_ct=200.0, duiit_mri=150.0))
    assert found.tone == SUPPORTED
    assert re.fullmatch(r"DUIIT \(MRI → CT\) lowers the mean squared error by 50\.0 years² \(25 %\) against PURE-CT "
                        r"\(95 % CI [\d.]+ to [\d.]+; corrected resampled t-test p < 0\.001, 8 splits\): these data "
                        r"support borrowing MRI\.", found.line)
    low, high = map(float, re.search(r"CI ([\d.]+) to ([\d.]+)", found.line).groups())
    assert 0 < low < 50 < high and low + high == pytest.approx(100, abs=0.2)


def test_a_clear_loss_speaks_against(folder):
    found = judged(folder.filled(pure_ct=150.0, duiit_mri=200.0))
    assert found.tone == AGAINST
    assert "raises the mean squared error by 50.0 years² (33 %)" in found.line
    assert found.line.endswith("these data speak against borrowing MRI.")
    assert any("does no better on average than: PURE-CT (200 against 150, a clear difference)" in d
               for d in found.details)


def test_a_difference_within_the_scatter_is_not_supported(folder):
    found = judged(folder.filled(pure_ct=200.0, duiit_mri=198.0))
    assert found.tone == NOT_SUPPORTED
    assert "data do not support borrowing MRI: its mean squared error is lower by 2.00 years² (1.0 %)" in found.line
    assert re.search(r"95 % CI of the difference −[\d.]+ to \+[\d.]+", found.line)


@pytest.mark.parametrize(("splits", "said"), [(1, "1 split is too few"), (2, "2 splits are too few"),
                                              (4, "4 splits are too few")])
def test_few_splits_say_nothing(folder, splits, said):
    found = judged(folder.filled(splits, pure_ct=200.0, duiit_mri=100.0))
    assert found.tone == OPEN
    assert "cannot say whether borrowing MRI helps" in found.line and said in found.line
    assert "support" not in found.line
    claims = ("clear", "learned nothing", "No translation can help", "harms")
    assert not any(word in " ".join(found.details) for word in claims)


def test_better_than_the_baseline_but_not_than_the_floor_is_not_supported(folder):
    found = judged(folder.filled(floor=140.0, pure_ct=200.0, duiit_mri=150.0))
    assert found.tone == NOT_SUPPORTED
    assert "but it is no better than always answering the training mean: these data do not support" in found.line
    assert any("does not beat always answering the training mean: 150 against 140" in d for d in found.details)


def test_better_than_the_baseline_but_not_clearly_than_the_floor_is_not_supported(folder):
    found = judged(folder.filled(floor=151.0, pure_ct=200.0, duiit_mri=150.0))
    assert found.tone == NOT_SUPPORTED
    assert "not shown to be better than always answering the training mean" in found.line


def test_without_a_floor_nothing_is_claimed(folder):
    found = judged(folder.filled(floor=None, pure_ct=200.0, duiit_mri=150.0))
    assert found.tone == OPEN and "is not known" in found.line


@pytest.mark.parametrize(("cyclegan", "said"), [(190.0, "The coupling helps: against"), (120.0, "The coupling harms"),
                                                (151.0, "The coupling is not shown to help")])
def test_the_coupling(folder, cyclegan, said):
    found = judged(folder.filled(pure_ct=200.0, cyclegan_mri=cyclegan, duiit_mri=150.0))
    assert sum(d.startswith(said) for d in found.details) == 1


def test_the_coupling_without_a_cyclegan(folder):
    found = judged(folder.filled(pure_ct=200.0, duiit_mri=150.0))
    assert any("coupling of translator and predictor helps cannot be said" in d for d in found.details)


@pytest.mark.parametrize(("oracle", "said"), [(201.0, "No translation can help here: even with the true target images"),
                                              (198.0, "Whether any translation could help is not shown"),
                                              (100.0, "Translation can help: “Oracle: true CTs” lowers")])
def test_the_room(folder, oracle, said):
    found = judged(folder.filled(pure_ct=200.0, duiit_mri=150.0, oracle_mri=oracle))
    (room,) = [d for d in found.details if d.startswith(said)]
    assert oracle != 100.0 or room.endswith("DUIIT (MRI → CT) reaches 50 % of that.")


def test_a_method_of_ones_own_is_judged_by_its_role(folder):
    roles = {"pure_ct": "pure", "mine": "duiit"}
    found = judged(folder.filled(roles=roles, purely=140.0, pure_ct=200.0, mine=150.0))
    assert found.method == "mine" and found.tone == SUPPORTED
    assert found.line.startswith("DUIIT, guidance real lowers") and "against PURE-CT" in found.line


def test_of_many_methods_five_are_named(folder):
    many = {f"augment_{n}": 140.0 - n for n in range(7)}
    found = judged(folder.filled(pure_ct=200.0, duiit_mri=150.0, **many))
    (line,) = [d for d in found.details if d.startswith("It does no better on average than")]
    assert line.count("“Augmented") == 5 and line.endswith(" and 2 more.")
    assert "“Augmented 6”" in line and "“Augmented 0”" not in line         # the best of them are named


def test_the_papers_criterion_is_told_apart(folder):
    """A paired test below 0.1 that the corrected one does not bear out."""
    folder.plan(["pure_ct", "duiit_mri"], 5).cells("pure_ct", [20.0, 24.0, 22.0, 28.0, 21.0], 90.0)
    folder.cells("duiit_mri", [18.0, 21.0, 21.0, 24.0, 21.5], 90.0)
    found = judged(folder)
    assert found.tone == NOT_SUPPORTED
    assert any("The paper’s own criterion (paired t-test, p < 0.1) is met" in d for d in found.details)


def test_splits_by_image_limit_the_claim(folder):
    folder.filled(settings={"split_by": "image"}, pure_ct=200.0, duiit_mri=150.0)
    found = judged(folder)
    assert found.tone == SUPPORTED and found.line.endswith("so they show nothing about new patients.")


def test_the_other_unit_is_told(folder):
    folder.plan(["pure_ct", "duiit_mri"], 8)
    for split, (a, b) in enumerate(zip(folder.around(200.0), folder.around(150.0, order=3), strict=True)):
        folder.cell("pure_ct", split, 170.0 + split, 300.0, by_patient=a)
        folder.cell("duiit_mri", split, 172.0 + (split * 3) % 8, 300.0, by_patient=b)
    assert any(d.startswith("Counted per image instead of per patient, the mean squared error is higher by 2.00 "
                            "squared label units") for d in judged(folder).details)


def test_classification_counts_the_other_way(folder):
    folder.plan(["pure_ct", "duiit_mri"], 8, task="classification")
    folder.cells("pure_ct", [v / 400 for v in folder.around(240.0, order=0)], 0.5)
    folder.cells("duiit_mri", [v / 400 for v in folder.around(320.0, order=2)], 0.5)
    found = judged(folder)
    assert found.tone == SUPPORTED
    assert found.line.startswith("DUIIT (MRI → CT) raises the balanced accuracy by 0.200 against PURE-CT (95 % CI 0.1")
    assert any(d.startswith("It beats always answering the most frequent class: 0.80") for d in found.details)


def test_a_method_that_chooses_says_what_was_chosen(folder):
    folder.filled(splits=3, pure_ct=200.0, cyclegan_mri=160.0, duiit_mri=150.0)
    methods = ["pure_ct", "cyclegan_mri", "duiit_mri", "mine"]
    folder.plan(methods, 3, roles={"pure_ct": "pure", "cyclegan_mri": "cyclegan", "mine": "duiit"}, label_unit="years")
    for split, chosen in enumerate(("duiit_mri", "cyclegan_mri", "duiit_mri")):
        folder.cell("mine", split, 150.0, chosen=chosen)
    assert judged(folder).details[0] == ("Of 3 splits, validation patients chose CycleGAN (MRI → CT) on 1, "
                                         "DUIIT (MRI → CT) on 2.")
