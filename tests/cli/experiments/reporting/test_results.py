"""What is read from an experiment's folder, and what it comes to: against numbers worked out by hand."""
import csv

import pytest

from duiit.util.errors import UserError
from duiit.util.statistics import corrected_t_test
from duiit_cli.experiments.reporting import comparison, formatting
from duiit_cli.experiments.reporting.published import read_published
from duiit_cli.experiments.reporting.result_files import write_result_files
from duiit_cli.experiments.reporting.results import FLOOR, Broken, Experiment, predictions

PURE, DUIIT = [200.0, 220.0, 180.0, 210.0, 190.0], [150.0, 160.0, 140.0, 170.0, 130.0]


@pytest.fixture
def simple(folder):
    """Five splits of PURE-CT, a CycleGAN and DUIIT; per patient each error is one lower than per image."""
    folder.plan(["pure_ct", "cyclegan_mri", "duiit_mri"], 5, label_unit="years")
    for split in range(5):
        folder.cell("pure_ct", split, PURE[split] + 1, 300.0, by_patient=PURE[split])
        folder.cell("cyclegan_mri", split, 161.0, 300.0, by_patient=160.0)
        folder.cell("duiit_mri", split, DUIIT[split] + 1, 300.0, by_patient=DUIIT[split])
    return folder


def rows_of(path):
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_values_by_unit_and_floor(simple):
    e = Experiment(simple.path)
    assert e.unit == "by_patient" and e.units == ["by_patient", "by_image"]
    assert e.values("duiit_mri", "by_patient", "mse") == dict(enumerate(DUIIT))
    assert e.values("duiit_mri", "by_image", "mse") == {k: v + 1 for k, v in enumerate(DUIIT)}
    assert e.values(FLOOR, "by_image", "mse") == dict.fromkeys(range(5), 300.0)
    assert e.values("pure_ct", "by_image", "pearson_r") == {}               # null in the file
    assert (e.missing, e.troubles) == ([], [])


def test_comparison_by_hand(simple):
    """Differences -50 -60 -40 -40 -60: mean -50, s^2 = 400 / 4 = 100; 3 test and 12 training patients, so the
    variance of the mean is (1 / 5 + 1 / 4) 100 = 45 and t = -50 / sqrt(45)."""
    found = comparison.compare(Experiment(simple.path), "duiit_mri", "pure_ct")
    assert found.differences == (-50, -60, -40, -40, -60)
    assert found.ratio == pytest.approx(0.25)
    assert found.corrected.t == pytest.approx(-50 / 45**0.5)
    assert found.paired.t == pytest.approx(-50 / 20**0.5)
    assert (found.gain, found.share) == (50, pytest.approx(0.25))
    assert found.better and not found.worse


def test_only_splits_that_both_finished_are_compared(folder):
    folder.plan(["pure_ct", "duiit_mri"], 4).cells("pure_ct", [10.0, 20.0, 30.0])
    folder.cells("duiit_mri", [7.0, 9.0], first=2)
    e = Experiment(folder.path)
    found = comparison.compare(e, "duiit_mri", "pure_ct")
    assert (found.splits, found.differences, found.mean, found.other_mean) == ((2,), (-23.0,), 7.0, 30.0)
    assert found.corrected.p is None and not found.decided
    assert e.missing == [("pure_ct", 3), ("duiit_mri", 0), ("duiit_mri", 1)]


def test_what_a_duiit_method_is_compared_with(folder):
    """Methods without a source or with its own; Holm counts these."""
    methods = ["pure_ct", "cyclegan_mri", "duiit_mri", "duiit_pet", "raw_mri", "oracle_mri"]
    folder.plan(methods, 5)
    for i, name in enumerate(methods):
        folder.cells(name, [100.0 + 10 * i + k * (i + 1) % 7 for k in range(5)], floor=200.0)
    e = Experiment(folder.path)
    found = comparison.against_others(e, "duiit_mri")
    assert [c.other for c in found] == [FLOOR, "pure_ct", "cyclegan_mri", "raw_mri", "oracle_mri"]
    assert [c.other for c in comparison.against_others(e, "duiit_pet")] == [FLOOR, "pure_ct"]
    least = min(found, key=lambda c: c.corrected.p)
    assert least.holm == pytest.approx(min(1, 5 * least.corrected.p))


def test_two_duiit_methods_of_one_source_are_compared_once(folder):
    folder.plan(["pure_ct", "duiit_mri"], 2)
    plan = folder.path / "experiment.json"
    plan.write_text(plan.read_text().replace('"translators"', '"x"').replace(
        '"methods": [', '"methods": [{"name": "duiit_real_mri", "title": "T", "sources": ["mri"], "table": "MRI"}, '))
    e = Experiment(folder.path)
    assert [c.other for c in comparison.against_others(e, "duiit_mri")] == ["duiit_real_mri", "pure_ct"]
    assert [c.other for c in comparison.against_others(e, "duiit_real_mri")] == ["pure_ct"]


def test_without_the_sizes_of_the_splits_there_is_no_corrected_test(folder):
    folder.plan(["pure_ct", "duiit_mri"], 3, val_fraction=None).cells("pure_ct", [5.0, 6.0, 8.0], counts={})
    folder.cells("duiit_mri", [4.0, 4.0, 4.0], counts={})
    found = comparison.compare(Experiment(folder.path), "duiit_mri", "pure_ct")
    assert found.ratio is None and found.corrected.p is None and found.paired.p is not None


def test_sizes_are_taken_from_the_settings_where_cells_do_not_tell(folder):
    folder.plan(["pure_ct", "duiit_mri"], 3).cells("pure_ct", [5.0, 6.0, 8.0], counts={})
    folder.cells("duiit_mri", [4.0, 4.0, 4.0], counts={})
    found = comparison.compare(Experiment(folder.path), "duiit_mri", "pure_ct")
    assert found.ratio == pytest.approx(0.2 / 0.7)
    assert found.corrected == corrected_t_test([4.0, 4.0, 4.0], [5.0, 6.0, 8.0], 0.2 / 0.7)


def test_splits_by_image_count_images(folder):
    folder.plan(["pure_ct"], 1, split_by="image").cells("pure_ct", [5.0])
    e = Experiment(folder.path)
    assert e.unit == "by_image"
    assert comparison.size_ratio(e, [0], ["pure_ct"]) == pytest.approx(24 / 96)


@pytest.mark.parametrize(("content", "reason"), [
    ("{", "not readable as JSON"), ("[1]", "does not hold a JSON object"), ("{}", "no predictor's errors"),
    ('{"predictor": {"by_image": {"n": 3}}}', "has no mse"),
    ('{"predictor": {"by_image": {"mse": NaN}}}', "not a finite number"),
    ('{"predictor": {"by_image": {"mse": "7"}}}', "not a finite number"),
    ('{"split": 1, "predictor": {"by_image": {"mse": 7}}}', "not of the folder"), ("\udcff", "not readable"),
])
def test_a_broken_cell_costs_itself_only(folder, content, reason):
    folder.plan(["pure_ct", "duiit_mri"], 1).cells("pure_ct", [5.0])
    path = folder.path / folder.cell_path("duiit_mri", 0) / "cell.json"
    path.parent.mkdir(parents=True)
    path.write_bytes(content.encode("utf-8", "surrogateescape"))
    e = Experiment(folder.path)
    (trouble,) = e.troubles
    assert (trouble.kind, trouble.name, trouble.split) == ("broken", "duiit_mri", 0)
    assert reason in trouble.error and "\n" not in trouble.error
    assert trouble.error.startswith("cells/duiit_mri/split_00/cell.json")
    assert list(e.cells) == [("pure_ct", 0)] and e.missing == []


def test_a_methods_role_is_the_plans_not_its_names(folder):
    roles = {"pure_ct": "pure", "mine": "duiit", "cyclegan_mri": "cyclegan", "duiit_mri": "something new"}
    folder.plan(["purely", "pure_ct", "mine", "cyclegan_mri", "duiit_mri"], 1, roles=roles)
    e = Experiment(folder.path)
    assert {m.name: m.role for m in e.methods.values()} == {**roles, "duiit_mri": "", "purely": ""}
    assert comparison.baseline(e).name == "pure_ct" and e.floor.role == "floor"


def test_roles_of_a_plan_that_does_not_tell_them(folder):
    folder.plan(["purely", "pure_ct", "mine", "duiit_mri", "oracle_mri", "raw_mri"], 1)
    assert [m.role for m in Experiment(folder.path).methods.values()] == ["", "pure", "", "duiit", "oracle", ""]


def test_what_failed_and_what_is_broken_are_troubles(folder):
    folder.plan(["pure_ct", "duiit_mri"], 2).cells("pure_ct", [5.0]).failed("pure_ct", 1)
    folder.write(folder.cell_path("duiit_mri", 0) / "cell.json", {})
    assert {(t.kind, t.name, t.split) for t in Experiment(folder.path).troubles} == \
        {("failed", "pure_ct", 1), ("broken", "duiit_mri", 0)}


def test_failed_and_missing_are_told_apart(folder):
    folder.plan(["pure_ct", "duiit_mri"], 2, ["duiit_mri"]).cells("pure_ct", [5.0])
    folder.failed("duiit_mri", 0, "CUDA out of memory\nmore").quality("duiit_mri", 0)
    folder.write("translators/duiit_mri/split_01/quality_failed.json", {"error": "no weights"})
    e = Experiment(folder.path)
    assert [(t.kind, t.error, t.translator) for t in e.troubles] == [
        ("failed", "CUDA out of memory", False), ("failed", "no weights", True)]
    assert e.missing == [("pure_ct", 1), ("duiit_mri", 1)]
    assert list(e.qualities) == [("duiit_mri", 0)]


def test_a_finished_cell_outweighs_an_earlier_failure(folder):
    folder.plan(["pure_ct"], 1).failed("pure_ct", 0).cells("pure_ct", [5.0])
    assert Experiment(folder.path).troubles == []


@pytest.mark.parametrize(("content", "complaint"), [
    (None, "is not there"), ("{", "not readable"), ("{}", "no settings"),
    ('{"settings": {"task": "sorting"}, "methods": []}', "unknown task sorting"),
    ('{"settings": {}, "methods": [{}]}', "no name")])
def test_without_a_plan_there_is_nothing_to_read(tmp_path, content, complaint):
    if content is not None:
        (tmp_path / "experiment.json").write_text(content)
    with pytest.raises(UserError, match=complaint) as error:
        Experiment(tmp_path)
    assert "\n" not in str(error.value) and "experiment.json" in str(error.value)


def test_predictions_are_those_on_real_target_images(folder):
    folder.plan(["pure_ct"], 1).cells("pure_ct", [5.0])
    folder.predictions("pure_ct", 0, [("p1", 10, 12), ("p1", 10, 14), ("p2", "", 5)])
    cell = Experiment(folder.path).cells["pure_ct", 0]
    table = predictions(cell, "ct")
    assert table["prediction"].tolist() == [12, 14]
    (cell.folder / "results" / "predictions.csv").write_text("a,b\n1,2\n")
    with pytest.raises(Broken):
        predictions(cell, "ct")


# -- the files ---------------------------------------------------------------------------------------------------

def test_results_csv_has_a_row_a_cell_and_unit(simple):
    write_result_files(Experiment(simple.path), [])
    rows = rows_of(simple.path / "results.csv")
    assert len(rows) == 5 * (3 + 1) * 2                                     # splits x (methods and floor) x units
    row = next(r for r in rows if (r["method"], r["split"], r["unit"]) == ("duiit_mri", "2", "image"))
    assert (float(row["mse"]), row["n"], row["seed"], row["split_seed"]) == (141.0, "24", "2", "102")
    assert (row["train_patients"], row["test_images"], row["seconds"], row["pearson_r"]) == ("12", "24", "90.0", "")
    assert {r["mse"] for r in rows if r["method"] == FLOOR} == {"300.0"}


def test_summary_csv_has_means_and_the_difference_to_the_baseline(simple):
    write_result_files(Experiment(simple.path), [])
    rows = {(r["method"], r["unit"]): r for r in rows_of(simple.path / "summary.csv")}
    row = rows["duiit_mri", "patient"]
    assert (float(row["mse_mean"]), float(row["mse_sd"])) == (150.0, pytest.approx(250**0.5))
    assert (float(row["difference"]), row["baseline"], row["pairs"]) == (-50.0, "pure_ct", "5")
    test = corrected_t_test(DUIIT, PURE, 0.25)
    assert [float(row[k]) for k in ("low", "high", "p_corrected")] == pytest.approx([test.low, test.high, test.p])
    assert rows["pure_ct", "patient"]["difference"] == ""
    assert float(rows["pure_ct", "image"]["mse_mean"]) == 201.0
    assert "nan" not in (simple.path / "summary.csv").read_text().lower()


def test_comparisons_csv_and_summary_md(simple):
    write_result_files(Experiment(simple.path), [])
    rows = rows_of(simple.path / "comparisons.csv")
    assert [(r["unit"], r["other"]) for r in rows] == [
        (unit, other) for unit in ("patient", "image") for other in (FLOOR, "pure_ct", "cyclegan_mri")]
    text = (simple.path / "summary.md").read_text(encoding="utf-8")
    assert "| DUIIT (MRI → CT) | 5 | 150 ± 16 |" in text
    assert "−50.0 (−68.6 to −31.4)" in text            # t(0.975, 4) = 2.776 times sqrt(45)
    lines = [line for line in text.splitlines() if line.startswith("|")]
    assert len({line.count("|") for line in lines}) == 1


def test_files_of_an_empty_experiment(folder):
    folder.plan(["pure_ct"], 1)
    write_result_files(Experiment(folder.path), [])
    assert "No cell is finished yet" in (folder.path / "summary.md").read_text()
    assert rows_of(folder.path / "results.csv") == []


# -- published figures -------------------------------------------------------------------------------------------

NAMES = ["pure_ct", "duiit_mri"]


def published(tmp_path, text):
    path = tmp_path / "published.toml"
    path.write_text(text, encoding="utf-8")
    return read_published(path, NAMES)


def test_published_figures(tmp_path):
    found = published(tmp_path, 'source = "X"\n[methods.pure_ct]\nmse = 7\n[methods.duiit_mri]\nmse = [5.5, 1]\n'
                                "fid = 30.0\np_values = { pure_ct = 0.04 }\n")
    assert found.source == "X"
    assert found.figure("pure_ct", "mse") == {"mean": 7.0, "sd": None}
    assert found.figure("duiit_mri", "mse") == {"mean": 5.5, "sd": 1.0}
    assert found.figure("duiit_mri", "mae") is None
    assert found.p_values["duiit_mri"] == {"pure_ct": 0.04}


@pytest.mark.parametrize(("text", "complaint"), [
    ("[methods.duit_mri]\nmse = 1\n", "did you mean duiit_mri"),
    ("[methods.pure_ct]\nmze = 1\n", "unknown key mze .did you mean mse"),
    ("[method.pure_ct]\nmse = 1\n", "unknown key method"),
    ('[methods.pure_ct]\nmse = "7"\n', "give a number"), ("[methods.pure_ct]\nmse = [1, 2, 3]\n", "give a number"),
    ("[methods.pure_ct]\nmse = [1, -2]\n", "give a number"), ("[methods.pure_ct]\nmse = nan\n", "give a number"),
    ("[methods.pure_ct]\np_values = { x = 0.1 }\n", "x is no method"),
    ("[methods.pure_ct]\np_values = { duiit_mri = 1.5 }\n", "between 0 and 1"),
    ("[methods.pure_ct]\np_values = 0.1\n", "give a table"), ("methods = 3\n", "methods a table"),
    ("[methods", "not readable as TOML"), ("methods.pure_ct = 3\n", "is no method")])
def test_wrong_published_figures_are_refused(tmp_path, text, complaint):
    with pytest.raises(UserError, match=complaint) as error:
        published(tmp_path, text)
    assert "published.toml" in str(error.value) and "\n" not in str(error.value)


def test_published_file_that_is_not_there(tmp_path):
    with pytest.raises(UserError, match="cannot be read"):
        read_published(tmp_path / "none.toml", NAMES)


# -- words -------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize(("value", "text"), [(0.0312, "0.0312"), (4.5, "4.50"), (1312.4, "1312"), (0, "0"), (None, "–"),
                                             (-2.5, "−2.50")])
def test_numbers(value, text):
    assert formatting.number(value) == text


def test_other_words():
    assert formatting.number(0.05, "balanced_accuracy", sign=True) == "+0.050"
    assert formatting.mean_sd({"mean": 131.2, "sd": 24.4}) == "131 ± 24"
    assert formatting.mean_sd({"mean": 0.31, "sd": 3.877}) == "0.31 ± 3.88"
    assert formatting.mean_sd({"mean": 5.0, "sd": None}) == "5.00"
    assert formatting.interval(-3.04, 59.3) == "−3.0 to 59.3"
    assert [formatting.equals(p) for p in (0.0004, 0.0312, None)] == ["p < 0.001", "p = 0.031", "p = –"]
    assert formatting.p_value(0.0996) == "0.100"
    assert formatting.runs([0, 3, 4, 5, 9]) == "0, 3–5, 9"
    assert formatting.unit_of("mse", {}) == "squared label units"
    assert formatting.unit_of("mse", {"label_unit": "mm"}) == "mm²"
    assert [formatting.duration(s) for s in (90, 600, 12600)] == ["90 s", "10 min", "3.5 h"]
