"""The report: its tables hold the numbers, it says how they were made, and it opens and prints anywhere."""
import csv
import json
import re
import shutil
import subprocess
from html import unescape
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from duiit.util.errors import UserError
from duiit_cli.experiments.reporting.exporting import latex
from duiit_cli.experiments.reporting.figures import Picture
from duiit_cli.experiments.reporting.page import Table
from duiit_cli.experiments.reporting.report import write_report

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
FLAGS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update", "--virtual-time-budget=2000",
]  # fmt: skip
MEASURE = """<script>addEventListener("load",()=>{const i=[...document.images];document.title=[
i.filter(x=>x.naturalWidth>0).length,i.length,document.querySelectorAll(".plot svg").length,
document.documentElement.scrollWidth>innerWidth].join(" ")})</script>"""


class Page(HTMLParser):
    """What a page asks for, and its tables as lists of texts."""

    def __init__(self, text):
        super().__init__()
        self.links, self.tables, self.cell = [], [], None
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.links += [(tag, value) for key, value in attrs
                       if key in ("src", "href", "srcset", "action", "data") and not value.startswith("#")]
        if tag == "script":
            self.links.append((tag, ""))
        if tag == "table":
            self.tables.append([])
        if tag == "tr":
            self.tables[-1].append([])
        if tag in ("td", "th"):
            self.cell = []

    def handle_data(self, data):
        if self.cell is not None:
            self.cell.append(data)

    def handle_endtag(self, tag):
        if tag in ("td", "th"):
            self.tables[-1][-1].append("".join(self.cell))
            self.cell = None

    def row(self, first, header):
        """{column: text} of the first row that begins so, in a table with that column."""
        table = next(t for t in self.tables if header in t[0] and any(r[0] == first for r in t[1:]))
        return dict(zip(table[0], next(r for r in table[1:] if r[0] == first), strict=True))


@pytest.fixture(autouse=True)
def undrawn(request, monkeypatch):
    """A figure's files take a second: they are written where a test is about them."""
    if "files" not in request.node.name:
        monkeypatch.setattr(Picture, "save", lambda self, folder: [])


def report(folder, published=None):
    lines = write_report(folder.path, published)
    text = (folder.path / "report.html").read_text(encoding="utf-8")
    return text, lines


@pytest.fixture
def whole(folder):
    """Everything that a report can show: four methods, translations with examples, predictions, failures."""
    methods = ["pure_ct", "cyclegan_mri", "duiit_mri", "raw_mri"]
    folder.plan(methods, 8, ["cyclegan_mri", "duiit_mri"], label_unit="years")
    for order, (name, mean) in enumerate(zip(methods, (200.0, 180.0, 150.0, 190.0), strict=True)):
        folder.cells(name, folder.around(mean, 8 if name != "raw_mri" else 6, order), 300.0)
        folder.predictions(name, 0, [("p1", 40, 44), ("p1", 40, 46), ("p2", 60, 51)])
    folder.failed("raw_mri", 6, "loss is not finite", "cells/raw_mri/split_06/train.log")
    for name in ("cyclegan_mri", "duiit_mri"):
        images = {}
        for kind in ("source", "translated", "truth"):
            images[kind] = f"translators/{name}/split_00/{kind}.png"
            path = folder.path / images[kind]
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.full((8, 8), len(kind), np.uint8)).save(path)
        folder.quality(name, 0, distribution={"n_real": 9, "n_fake": 9, "fd_predictor": 12.5}, paired={
            "n": {"images": 4}, "mask": "body found in the real CT", "window": "-20 to 100 HU",
            **{key: {"mean": mean, "sd": None, "n": 1} for key, mean in (
                ("mae_hu", 61.0), ("psnr", 24.0), ("ssim", 0.8), ("mae_hu_in_window", 6.25))}}, label_fidelity={
            "held_out": {"by_image": {"n": 3, "mse": 91.0, "mae": 9.0, "pearson_r": 0.65},
                         "by_patient": {"n": 2, "mse": 81.0, "mae": 8.0, "pearson_r": 0.75}}, "trained_on": {}},
            examples=[{"patient": "m1", "file": "m1/3.png", "label": 33.0, "images": images}])
    return folder


@pytest.mark.slow
def test_the_page_asks_for_nothing(whole):
    text, _ = report(whole)
    page = Page(text)
    assert {tag for tag, _ in page.links} == {"link", "img"}
    assert all(value.startswith(("data:", "data:image/png;base64,")) for _, value in page.links)
    assert sum(tag == "img" for tag, _ in page.links) == 4                  # source, two translations, truth
    style = "".join(re.findall(r"<style.*?</style>", text, re.DOTALL))
    assert "url(http" not in text and "@import" not in style
    assert "nan" not in re.sub(r"base64,[^\"]+", "", text).lower().replace("nanoseconds", "")


def test_tables_hold_the_numbers(whole):
    page = Page(report(whole)[0])
    row = page.row("DUIIT (MRI → CT)", "MSE per patient (years²)")
    assert row["MSE per patient (years²)"] == "150 ± 3"                    # 150.375 and 2.67
    assert row["splits"] == "8"
    row = page.row("PURE-CT", "p, paired t-test (the paper’s)")
    assert (row["MSE of this method"], row["MSE of the other"]) == ("150", "200")
    assert row["difference (years²), 95 % CI"].startswith("−50.0 (")
    row = page.row("DUIIT (MRI → CT)", "Fréchet distance, predictor ↓")
    assert row == {"translator": "DUIIT (MRI → CT)", "splits": "1", "Fréchet distance, predictor ↓": "12.5",
                   "MAE (HU), body found in the real CT ↓": "61.0", "PSNR (dB), body found in the real CT ↑": "24.0",
                   "SSIM, body found in the real CT ↑": "0.800",
                   "MAE (HU), body found in the real CT, -20 to 100 HU ↓": "6.25",
                   "label MSE (years²), held out, by patient ↓": "81.0",
                   "label Pearson r, held out, by patient ↑": "0.750"}
    assert page.row("Raw MRIs mixed in", "split 6")["split 6"] == "failed"
    assert page.row("Raw MRIs mixed in", "split 7")["split 7"] == "missing"
    assert page.row("split 3", "seed of the split")["test: images (patients)"] == "24 (3)"


@pytest.mark.slow
def test_failures_and_what_is_missing_are_named(whole):
    text, lines = report(whole)
    assert lines[-1] == "1 of 32 cells is still missing, 1 failed: the figures are of the other 30."
    assert "Raw MRIs mixed in, split 6: failed: loss is not finite (log: cells/raw_mri/split_06/train.log)" in text
    assert "Raw MRIs mixed in: split 7 not run yet" in text
    assert "The methods did not all finish the same splits" in text
    assert (whole.path / "results.csv").is_file() and (whole.path / "summary.md").is_file()


def test_figures_of_an_earlier_version_are_never_averaged_with_those_of_today(whole):
    whole.quality("duiit_mri", 1, paired={"n": 4, "mae_HU_in_window": 5.0, "psnr": 30.0, "ssim": 0.9}, label_fidelity={
        "held_out": {"n": 3, "mse": 71.0, "mae": 7.0, "pearson_r": 0.85}, "trained_on": {}})
    row = Page(report(whole)[0]).row("DUIIT (MRI → CT)", "Fréchet distance, predictor ↓")
    assert row["PSNR (dB), body found in the real CT ↑"] == "24.0"
    assert row["PSNR (dB), images, by an earlier version ↑"] == "30.0"
    assert row["label MSE (years²), held out, by patient ↓"] == "81.0"
    assert row["label MSE (years²), held out, by image ↓"] == "71.0"


def test_splits_by_image_are_warned_of_once(folder):
    text, lines = report(folder.filled(2, settings={"split_by": "image"}, pure_ct=200.0, duiit_mri=150.0))
    assert text.count("slices of one patient stand on both sides") == 1
    assert any("slices of one patient stand on both sides" in line for line in lines)


def test_text_from_files_is_escaped(folder):
    folder.plan(["pure_ct"], 2).cells("pure_ct", [5.0], commands=["duiit train --name '<b>'"])
    folder.failed("pure_ct", 1, "<script>alert(1)</script>")
    text, _ = report(folder)
    assert "<script>" not in text and "&lt;script&gt;" in text and "<b>" not in text


def test_an_example_shows_no_file_from_elsewhere(folder, tmp_path):
    Image.fromarray(np.zeros((4, 4), np.uint8)).save(tmp_path / "secret.png")
    folder.plan(["duiit_mri"], 1, ["duiit_mri"]).quality("duiit_mri", 0, examples=[
        {"patient": "p", "file": "f", "label": None, "images": {"source": "../secret.png", "translated": "gone.png"}}])
    text, _ = report(folder)
    assert "no label" in text and "data:image" not in text


def test_no_finished_cell_is_still_a_page(folder):
    folder.plan(["pure_ct", "duiit_mri"], 3).failed("pure_ct", 0)
    text, lines = report(folder)
    assert lines == ["No cell is finished yet (5 of 6 cells are still missing, 1 failed)."]
    assert "There is nothing to compare." in text and "out of memory" in text


def test_one_split_and_one_method(folder):
    text, lines = report(folder.plan(["pure_ct"], 1).cells("pure_ct", [5.0], 9.0))
    assert lines == ["The only cell is finished."]
    assert "No DUIIT method is in this experiment" in text


def test_one_split_says_that_there_is_no_test(folder):
    text, _ = report(folder.filled(1, pure_ct=200.0, duiit_mri=150.0))
    assert "A single split: there is no test" in text
    assert Page(text).row("PURE-CT", "MSE of the other")["p, corrected resampled t-test"] == "–"


def test_methods_tested_on_different_images_are_called_out(folder):
    folder.plan(["pure_ct", "duiit_mri"], 2).cells("pure_ct", [5.0, 6.0], 9.0).cells("duiit_mri", [4.0, 4.5], 9.0)
    folder.cell("duiit_mri", 1, 4.5, 9.0, split_seed=7)
    text, lines = report(folder)
    assert "not tested on the same images in split 1" in text and "not tested on the same images" in lines[1]


@pytest.mark.slow
def test_a_broken_predictions_file_costs_its_points_only(whole):
    (whole.path / whole.cell_path("pure_ct", 0) / "results" / "predictions.csv").write_text("x\n1\n")
    text, _ = report(whole)
    assert "no points in the figure of predictions: cells/pure_ct/split_00/results/predictions.csv" in text
    assert "Predicted and true labels" in text


def test_classification_has_a_confusion_matrix(folder):
    folder.plan(["pure_ct", "duiit_mri"], 2, task="classification").cells("pure_ct", [0.6, 0.7], 0.5)
    folder.cells("duiit_mri", [0.8, 0.7], 0.5)
    folder.predictions("pure_ct", 0, [("a", "1", "1"), ("b", "2", "1"), ("c", "2", "2")])
    text, _ = report(folder)
    assert "Predicted and true classes" in text
    assert re.search(r">50%<.*?>1<", text, re.DOTALL)                       # half of class 2, one image
    assert "Balanced accuracy per patient" in text


@pytest.mark.slow
def test_the_papers_figures_stand_beside_without_being_asked(whole):
    text, _ = report(whole)
    page = Page(text)
    row = page.row("DUIIT (MRI → CT)", "MSE, published")
    assert row == {"method": "DUIIT (MRI → CT)", "splits": "8", "MSE per patient, here": "150 ± 3",
                   "MSE per image, here": "150 ± 3", "MSE, published": "76.91 ± 8.31",
                   "change against PURE-CT, here": "−25 %", "change, published": "−26 %"}
    assert page.row("Domain adaptation, DANN (MRI)", "MSE, published")["MSE, published"] == "88.13 ± 21.86"
    assert page.row("CycleGAN (MRI → CT)", "FID ↓, published") == {
        "translator": "CycleGAN (MRI → CT)", "FID ↓, here": "–", "FID ↓, published": "40.94",
        "Inception Score ↑, here": "–", "Inception Score ↑, published": "3.49 ± 0.15"}
    row = page.row("PURE-CT", "p, published")
    assert (row["p, published"], row["better here"]) == ("0.020", "this method")
    assert row["p, paired t-test, here"] == "< 0.001"
    assert page.row("AutoAugment", "p, published")["p, published"] == "< 0.0005"
    assert "another data set, split by image; not comparable in absolute value" in text


@pytest.mark.parametrize("settings", [{"task": "classification"}, {"target": "t2"}])
def test_the_papers_figures_stand_beside_its_own_question_only(folder, settings):
    folder.plan(["pure_ct", "duiit_mri"], 2, **settings).cells("pure_ct", [0.5, 0.6], 0.5)
    assert 'id="published"' not in report(folder.cells("duiit_mri", [0.6, 0.7], 0.5))[0]


@pytest.mark.slow
def test_published_figures_can_be_left_out_or_be_others(whole, tmp_path):
    assert 'id="published"' not in report(whole, "none")[0]
    path = tmp_path / "other.toml"
    path.write_text('source = "Another Paper"\n[methods.duiit_mri]\nmse = [7.5, 1.5]\nfid = 33.0\nmae = 2\n'
                    "p_values = { pure_ct = 0.04 }\n[methods.raw_mri]\nmse = 9\n[methods.dann_mri]\naccuracy = 0.9\n")
    text, _ = report(whole, path)
    page = Page(text)
    assert "(Another Paper)" in text and "88.13" not in text and "accuracy" not in text
    assert page.row("DUIIT (MRI → CT)", "MSE, published")["MSE, published"] == "7.50 ± 1.50"
    assert page.row("DUIIT (MRI → CT)", "MAE, published")["MAE, published"] == "2.00"
    assert page.row("Raw MRIs mixed in", "MSE, published")["change, published"] == "–"
    assert page.row("DUIIT (MRI → CT)", "FID ↓, published")["FID ↓, published"] == "33.00"
    assert page.row("PURE-CT", "p, published")["p, published"] == "0.040"


@pytest.mark.slow
@pytest.mark.parametrize(("values", "bold"), [
    ({"pure_ct": [5.0, 6.0], "duiit_mri": [6.0, 5.0], "raw_mri": [7.0, 7.0]}, 2),
    ({"pure_ct": [9.0, 9.5], "duiit_mri": [9.0, 9.0], "raw_mri": [11.0, 7.0]}, 0),        # the floor is as good
    ({"pure_ct": [5.0, 6.0], "duiit_mri": [4.0, 5.0], "raw_mri": [7.0, 7.0]}, 1),
    ({"pure_ct": [5.0], "duiit_mri": [4.0]}, 0)])
def test_all_that_tie_are_bold_from_two_splits_on(folder, values, bold):
    folder.plan(list(values), len(next(iter(values.values()))))
    for name, found in values.items():
        folder.cells(name, found, 9.0)
    text, _ = report(folder)
    assert text.split('id="comparisons"')[0].count('class="number strong"') == bold


@pytest.mark.slow
def test_translators_and_starts_have_their_time(whole):
    whole.write("translators/duiit_mri/split_00/translator.json", {"seconds": 7200.0, "finished": "x", "resumed": True})
    whole.write("translators/duiit_mri/split_01/translator.json", {"seconds": 3600.0, "finished": "x"})
    whole.write("starts/raw_mri/split_01/start.json", {"seconds": 60.0, "finished": "x"})
    page = Page(report(whole)[0])
    row = page.row("translator of DUIIT (MRI → CT)", "all splits")
    assert (row["split 0"], row["split 1"], row["split 2"], row["all splits"]) == ("2.0 h+", "60 min", "–", "3.0 h+")
    assert page.row("start of Raw MRIs mixed in", "all splits")["split 1"] == "60 s"


def test_the_command_makes_the_experiment_again(whole):
    settings = json.loads((whole.path / "experiment.json").read_text())
    given = {"dataroot": "/my data", "splits": 8, "keep_empty": True, "slurm": ["time=9", "mem=4G"]}
    whole.write("experiment.json", {**settings, "given": given, "options": {"load_size": 286, "splits": 8}})
    text = unescape(report(whole)[0])
    assert (f"duiit experiment '--dataroot=/my data' --splits=8 --keep_empty --slurm=time=9 --slurm=mem=4G "
            f"--output={whole.path}") in text
    assert re.search(r"by --preset or by default: </span>[^<]*load_size = 286", text)


@pytest.mark.slow
def test_options_of_trainings_and_presets_are_shown(whole):
    words = ["train", "--model=predictor", "--lr=0.5"]
    whole.write("plan.json", [
        {"id": "cells/duiit_mri/split_00", "needs": ["translators/duiit_mri/split_00"], "words": words},
        {"id": "translators/duiit_mri/split_00", "needs": [], "words": ["train", "--lambda_pred=0.25"]}])
    whole.write("cells/duiit_mri/split_00/train_opt.json", {"options": {
        "model": "predictor", "dataset_mode": "labelled", "lr": 0.5, "n_epochs": 100, "label_mean": 44.5}})
    settings = json.loads((whole.path / "experiment.json").read_text())
    settings["methods"][0]["recipe"] = "mine.toml"
    whole.write("experiment.json", {**settings, "presets": {"mine.toml": "# what I chose <b>\n"}})
    text = report(whole)[0]
    assert "Predictor: cells/duiit_mri/split_00" in text and "Translator: translators/duiit_mri/split_00" in text
    marked = re.search(r'<p class="marked">.*?</p>', text)[0]
    assert "lr = 0.5 (default 0.0001)" in marked and "n_epochs" not in marked and "label_mean" not in marked
    assert "what the data said: </span>label_mean = 44.5" in text and "lambda_pred=0.25" in text
    assert "# what I chose &lt;b&gt;" in text and ">mine.toml<" in text


@pytest.mark.slow
def test_the_data_by_modality_and_part(whole):
    def facts(patients, slices, mean):
        return {"patients": patients, "slices": slices, "labelled": slices - 1, "labelled_patients": patients,
                "ages": {"mean": mean, "sd": 10.0, "low": mean - 20, "high": mean + 20}}

    ct = {"whole": facts(17, 136, 40.0), "train": facts(12, 96, 41.0), "test": facts(3, 24, 39.0)}
    whole.cell("pure_ct", 0, 200.0, 300.0, data={"ct": ct})
    whole.write("translators/duiit_mri/split_00/translator.json", {"finished": "x", "data": {
        "ct": ct, "mri": {"whole": facts(60, 480, 55.0), "train": facts(54, 432, 55.0), "test": facts(6, 48, 55.0)}}})
    settings = json.loads((whole.path / "experiment.json").read_text())
    whole.write("experiment.json", {**settings, "image_sizes": {"mri": {"256x256": 9, "240x240": 2}}})
    text = report(whole)[0]
    page = Page(text)
    row = page.row("MRI", "labelled patients")
    assert (row["patients"], row["slices"], row["labelled slices"]) == ("60", "480", "479")
    assert row["age (years)"] == "55.0 ± 10.0 (35.0 to 75.0)"
    assert row["rows x columns as stored (scans looked at)"] == "256x256 (9), 240x240 (2)"
    assert page.row("MRI, held out", "labelled patients")["patients"] == "6"
    assert page.row("CT, test", "labelled patients")["age (years)"] == "39.0 ± 10.0 (19.0 to 59.0)"
    assert "DUIIT (MRI → CT): translates 480 images in each split" in text


@pytest.mark.slow
def test_the_data_of_an_older_experiment_are_what_its_runs_kept(whole):
    run = "translators/duiit_mri/split_00"
    whole.write(f"{run}/train_opt.json", {"options": {"ct_window": "brain", "load_size": 286, "label_stats": {
        "mri": {"known": 40, "mean": 52.5, "std": 8.0}}}})
    whole.write(f"{run}/split.csv", "modality,patient,file,slice,split\nct,a,,,train\nct,b,,,test\nmri,m,,,train\n"
                                    "mri,n,,,train\n")
    text = report(whole)[0]
    row = Page(text).row("MRI", "patients, training")
    assert (row["patients, training"], row["labelled training slices"]) == ("2", "40")
    assert row["age of these"] == "52.5 ± 8.0"
    assert "CT window (--ct_window): brain" in text and "loading size (--load_size, pixels): 286" in text


@pytest.mark.slow
def test_tables_and_figures_are_files_too(whole):
    text, _ = report(whole)
    there = {p.relative_to(whole.path).as_posix() for kind in ("tables", "figures")
             for p in (whole.path / kind).iterdir()}
    assert there >= {"tables/errors_mri_ct.csv", "tables/errors_mri_ct.tex", "tables/comparisons_duiit_mri.tex",
                     "tables/published_table_3_mri_ct_mse.csv", "tables/translations_mri.csv", "tables/time.csv",
                     "figures/errors.svg", "figures/errors.pdf", "figures/differences_duiit_mri.pdf",
                     "figures/predictions.pdf", "figures/examples_mri.pdf"}
    assert all(f"<li>{name}</li>" in text for name in there)
    assert (whole.path / "figures" / "errors.pdf").read_bytes().startswith(b"%PDF")
    assert "var(--" not in (whole.path / "figures" / "errors.svg").read_text()
    with open(whole.path / "tables" / "errors_mri_ct.csv", encoding="utf-8", newline="") as file:
        rows = {row["method"]: row for row in csv.DictReader(file)}
    assert rows["DUIIT (MRI → CT)"]["MSE per patient (years²)"] == "150 ± 3"


def test_latex_of_a_table():
    table = Table("t", "Errors", ["method", "MSE (years²)", "p"],
                  [["a_b & 50 %", ("7 ± 1", "number strong"), "< 0.001"], ["MRI → CT", "−2", "–"]])
    assert latex(table).splitlines()[1:] == [
        r"\begin{tabular}{lrr}", r"\toprule", r"method & MSE (years\textsuperscript{2}) & p \\", r"\midrule",
        r"a\_b \& 50 \% & \textbf{7 $\pm$ 1} & $<$ 0.001 \\", r"MRI $\rightarrow$ CT & $-$2 & -- \\",
        r"\bottomrule", r"\end{tabular}"]


def test_published_figures_of_unknown_methods_are_refused(whole, tmp_path):
    path = tmp_path / "paper.toml"
    path.write_text("[methods.duit]\nmse = 1\n")
    with pytest.raises(UserError, match="duit"):
        write_report(whole.path, path)
    assert not (whole.path / "report.html").exists()


@pytest.mark.slow
def test_the_same_folder_gives_the_same_page(whole):
    assert report(whole)[0] == report(whole)[0]


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="no chromium")
@pytest.mark.parametrize("width", [1400, 500])
def test_a_browser_shows_everything_without_overflow(whole, tmp_path, width):
    text, _ = report(whole)
    page = tmp_path / "page.html"
    page.write_text(text.replace("</main>", f"</main>{MEASURE}"), encoding="utf-8")
    command = [CHROMIUM, *FLAGS, f"--user-data-dir={tmp_path / 'profile'}", f"--window-size={width},900", "--dump-dom"]
    dom = subprocess.run([*command, page.as_uri()], capture_output=True, text=True, timeout=60).stdout
    assert re.search(r"<title>(.*?)</title>", dom)[1] == "4 4 3 false"


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="no chromium")
def test_on_paper_no_table_is_cut_off(whole, tmp_path):
    """The width that a printed page has: all that scrolls on a screen must fit, and what is folded away be open."""
    fits = """<script>addEventListener("load",()=>{document.querySelectorAll("style").forEach(s=>s.textContent=
s.textContent.replaceAll("@media print","@media all"));const all=[...document.querySelectorAll(".scroll,pre")];
document.title=[all.length,all.filter(x=>x.scrollWidth>x.clientWidth+1).length,
[...document.querySelectorAll("details>*:not(summary)")].filter(x=>!x.checkVisibility()).length].join(" ")})</script>"""
    text, _ = report(whole)
    page = tmp_path / "page.html"
    page.write_text(text.replace("</main>", f"</main>{fits}"), encoding="utf-8")
    command = [CHROMIUM, *FLAGS, f"--user-data-dir={tmp_path / 'profile'}", "--window-size=703,1000", "--dump-dom"]
    dom = subprocess.run([*command, page.as_uri()], capture_output=True, text=True, timeout=60).stdout
    count, cut, hidden = re.search(r"<title>(.*?)</title>", dom)[1].split()
    assert int(count) > 8 and (cut, hidden) == ("0", "0")
