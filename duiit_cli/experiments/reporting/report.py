"""`report.html`, and the tables as files, from what `duiit experiment` left in its folder.

The page is for a reviewer who was not there: the verdict first, then the figures it stands on, then how they were made,
with everything that failed or is missing. It is one file that asks for nothing.
"""
from collections.abc import Sequence
from os import PathLike
from typing import Any

import numpy as np

from duiit.options import presets
from duiit.util.files import write_text
from duiit.util.problems import MANY, counted
from duiit_cli.experiments.planning import methods
from duiit_cli.experiments.reporting import (
    cohorts,
    figures,
    formatting,
    page,
    provenance,
    published_report,
    safety_report,
    tables,
)
from duiit_cli.experiments.reporting.comparison import (
    FEWEST_SPLITS,
    PAPER,
    SIGNIFICANT,
    against_others,
    baseline,
    size_ratio,
)
from duiit_cli.experiments.reporting.exporting import write_exhibits
from duiit_cli.experiments.reporting.published import Published, published_for
from duiit_cli.experiments.reporting.result_files import write_result_files
from duiit_cli.experiments.reporting.results import Broken, Experiment, predictions
from duiit_cli.experiments.reporting.translation_tables import example_tables, quality_tables
from duiit_cli.experiments.reporting.verdict import AGAINST, NOT_SUPPORTED, OPEN, SUPPORTED, Verdict, verdicts

MARKS = {SUPPORTED: "Supported", NOT_SUPPORTED: "Not supported", AGAINST: "Against", OPEN: "Open"}
IMAGE_SPLIT = ("The splits are drawn by image: slices of one patient stand on both sides, so a predictor can know a "
               "test patient from training. The errors are lower than on new patients, and say nothing about those.")

QUALITY = ("Mean ± standard deviation over the splits; ↓ lower is better, ↑ higher. Fréchet distance: between real and "
           "translated images, in the features of the network named; only with Inception’s it is FID. It depends on "
           "the network and on the number of images. MAE, PSNR, SSIM: against the true image, where it is known. "
           "Label: read from the translation by a predictor, against the source’s label, on patients held out of the "
           "translator’s training and on those it was trained on.")


def write_report(folder: str | PathLike[str], published: str | None = None) -> list[str]:
    """Writes report.html, results.csv, summary.csv, comparisons.csv, summary.md, figures/ and tables/ into the
    experiment's folder.

    published: a TOML file with published figures, "none" for none, or None for the paper's. Returns lines that sum the
    report up. Raises UserError where experiment.json or `published` cannot be used; whatever else is wrong is named in
    the report.
    """
    experiment = Experiment(folder)
    figures_of_others = published_for(experiment, published, known_names(experiment))
    found = verdicts(experiment) if experiment.cells else []
    write_result_files(experiment, found)
    write_text(experiment.folder / "report.html", Report(experiment, figures_of_others, found).render())
    return [*(v.line for v in found), *_warnings(experiment), state(experiment)]


def known_names(experiment: Experiment) -> list[str]:
    """What a file of published figures may speak of: this experiment's methods, and any that a preset describes."""
    return list(dict.fromkeys([*experiment.methods, *experiment.translators, *presets.names()]))


def state(experiment: Experiment) -> str:
    """`7 of 20 cells are still missing, 1 failed: the figures are of the other 12`."""
    total, done, missing = len(experiment.planned), len(experiment.cells), len(experiment.missing)
    troubles = [t.kind for t in experiment.troubles if not t.translator]
    is_are = "is" if missing == 1 else "are"
    parts = [f"{missing} of {counted(total, 'cell')} {is_are} still missing"] if missing else []
    parts += [f"{troubles.count(kind)} {said}" for kind, said in (("failed", "failed"), ("broken", "cannot be read"))
              if kind in troubles]
    if not done:
        return f"No cell is finished yet ({', '.join(parts)})." if parts else "No cell is finished yet."
    if not parts:
        return f"All {total} cells are finished." if total > 1 else "The only cell is finished."
    return f"{', '.join(parts)}: the figures are of the other {done}."


class Report:
    def __init__(self, experiment: Experiment, published: Published, found: Sequence[Verdict]) -> None:
        self.experiment, self.published, self.verdicts = experiment, published, found
        self.notes: list[str] = []                     # files that could not be used

    def render(self) -> str:
        e = self.experiment
        parts = [self._verdict()]
        if e.cells:
            parts += [self._errors(), self._comparisons()]
        parts += [self._translations(), safety_report.section(e)] if e.qualities else []
        parts += [self._predictions()] if e.cells else []
        parts += [published_report.section(e, self.published, self._titles()), cohorts.section(e), self._protocol(),
                  self._troubles(), self._reading()]
        parts = [p for p in parts if p is not None]
        parts += [p for p in (self._files(parts),) if p is not None]
        count, splits = counted(len(e.methods), "method"), counted(len(e.splits), "split")
        about = f"{count}, {splits} by {e.settings.get('split_by', 'patient')}, task {e.task}, target {e.target}. "
        return page.page("Does borrowing images help?", about + state(e), parts)

    def _titles(self) -> dict[str, str]:
        """{method: title} of this experiment's methods, and of the paper's others."""
        there = methods.available(methods.NAMED, self.experiment.target)
        return {**{n: m.title for n, m in there.items()}, **{n: m.title for n, m in self.experiment.methods.items()}}

    # -- the verdict -------------------------------------------------------------------------------------------

    def _verdict(self) -> page.Element:
        e = self.experiment
        cards = [page.card("warning", "Mind", line) for line in _warnings(e)]
        if not e.cells:
            cards.append(page.card(OPEN, "Open", state(e) + " There is nothing to compare."))
        elif not self.verdicts:
            cards.append(page.card(OPEN, "Open", "No DUIIT method is in this experiment: there is nothing to judge, "
                                                 "only the figures below."))
        cards += [page.card(v.tone, MARKS[v.tone], v.line, v.details) for v in self.verdicts]
        return page.part("verdict", "Verdict", *cards)

    # -- errors ------------------------------------------------------------------------------------------------

    def _errors(self) -> page.Element:
        e = self.experiment
        pieces = [page.text("Mean ± standard deviation over the splits, on real target images of the test part. The "
                            "first row is the floor, the error without looking at the image. Bold: the best of a "
                            "table, where it is better than the floor and all of its methods finished the same two "
                            "splits or more (oracles aside).")]
        if e.task == "regression" and not e.settings.get("label_unit"):
            pieces.append(page.note("Errors are in the unit of the labels, the mean squared error in its square."))
        for heading, listed in tables.source_sets(e).items():
            name = f"errors_{formatting.file_name(heading)}"
            pieces += [page.heading(heading), tables.error_table(e, listed, name, heading)]
        finished = {tuple(e.values(m, e.unit, e.metric)) for m in e.methods} - {()}
        if len(finished) > 1:
            pieces.append(page.note("The methods did not all finish the same splits, so their means are of different "
                                    "test images; the differences and p-values are of the splits that both finished."))
        caption = (f"A dot is a split, the bar their mean, the dashed line {e.floor.title.lower()}. "
                   "The scatter of the dots is the splits’ as well as the method’s: compare methods by the differences "
                   "on the same splits, below.")
        pieces.append(page.plot(figures.errors_over_splits(e, e.unit), caption))
        what = "Accuracy" if e.task == "classification" else "Errors"
        return page.part("errors", f"{what} (the paper’s Tables 2 to 4)", *pieces)

    def _comparisons(self) -> page.Element | None:
        e = self.experiment
        pieces = []
        for method in e.named("duiit"):
            compared = [c for c in against_others(e, method.name) if c.corrected.n]
            if not compared:
                continue
            pieces += [page.heading(f"{method.title} against"), tables.p_value_table(e, compared),
                       page.plot(figures.paired_differences(e, compared, e.unit), self._about_differences())]
        if not pieces:
            return None
        if len(e.splits) < 2:
            pieces.insert(0, page.text("A single split: there is no test, and no telling chance from effect."))
        pieces.insert(0, page.text(
            f"The paper’s paired t-test is held against {PAPER}, the corrected resampled t-test against {SIGNIFICANT}; "
            f"what stays below is bold, from {FEWEST_SPLITS} splits on: green where this method is better, red where "
            "it is worse."))
        return page.part("comparisons", "Comparisons split by split (the paper’s Tables 6 and 7)", *pieces)

    def _about_differences(self) -> str:
        better = "right" if self.experiment.task == "classification" else "left"
        return (f"A dot is a split, the diamond their mean, the line its 95 % interval by the corrected test. To the "
                f"{better} of zero this method is better. Blue: clearly better; red: clearly worse; grey: undecided.")

    # -- translations ------------------------------------------------------------------------------------------

    def _translations(self) -> page.Element | None:
        e = self.experiment
        pieces = []
        for source, table in quality_tables(e):
            pieces += [page.heading(f"{source.upper()} → {e.target.upper()}"), table]
        if pieces:
            pieces.append(page.note(QUALITY))
        for source, split, table in example_tables(e):
            pieces += [page.heading(f"Examples from {source.upper()}, split {split}"), table]
        heading = "Translations (the paper’s Table 5, Figures 2 to 4)"
        return page.part("translations", heading, *pieces) if pieces else None

    # -- predictions -------------------------------------------------------------------------------------------

    def _predictions(self) -> page.Element | None:
        classes = self.experiment.task == "classification"
        groups = []
        for name, method in self.experiment.methods.items():
            found = [table for table in (self._table(name, k) for k in self.experiment.splits) if table is not None]
            labels = np.concatenate([np.asarray(t["label"]) for t in found]) if found else np.zeros(0)
            if len(labels):
                groups.append((method.title, labels, np.concatenate([np.asarray(t["prediction"]) for t in found])))
        if not groups:
            return None
        if classes:
            plot = page.plot(figures.confusion(groups), "Rows are the true classes, columns the predicted ones: the "
                             "share of a row and the number of images, summed over the splits.")
            return page.part("predictions", "Predicted and true classes", plot)
        plot = page.plot(figures.predicted_against_true(groups, self.experiment.settings),
                         "A point is a test patient of one split (the mean over the patient’s slices); a patient may "
                         "be in the test part of several splits. On the line the prediction is right.")
        return page.part("predictions", "Predicted and true labels", plot)

    def _table(self, name: str, split: int) -> Any:
        """label and prediction of a cell: of its test patients (a number), or of its test images (a class)."""
        cell = self.experiment.cells.get((name, split))
        if cell is None:
            return None
        try:
            table = predictions(cell, self.experiment.target)
            if self.experiment.task == "classification":
                return table[["label", "prediction"]].astype(str)
            table = table.astype({"label": float, "prediction": float})
            return table.groupby("patient")[["label", "prediction"]].mean()
        except (Broken, ValueError) as error:
            self.notes.append(str(error).replace(f"{self.experiment.folder}/", ""))
            return None

    # -- how it was made ---------------------------------------------------------------------------------------

    def _protocol(self) -> page.Element:
        e = self.experiment
        unit = e.settings.get("split_by", "patient")
        pieces = [] if not e.cells else [
            page.text(f"Each split is drawn anew, by {unit}, from its own seed; every method is trained and tested "
                      "on the same parts."), tables.split_table(e), page.heading("Time of each training"),
            tables.state_table(e)]
        if any(cell.record.get("resumed") for cell in e.cells.values()):
            pieces.append(page.note("+: stopped and gone on with; the time is that since then."))
        pieces += [page.heading("Made with"), page.bullets(provenance.made_with(e)),
                   page.heading("Command"), page.note("It makes the experiment again, in another --output."),
                   page.listing([provenance.command(e)]), provenance.settings(e)]
        commands = provenance.run_commands(e)
        if commands:
            pieces.append(page.folded("Commands of each method’s first finished split (the others stand in their "
                                      "cell.json)", page.listing(commands)))
        options = provenance.options_by_method(e)
        if options:
            pieces += [page.heading("Options of each method’s trainings, as they came together"), page.note(
                "Of the first split that has any. What says only where a run lies, how it is shown and how often it "
                "is saved is left out."), *options]
        pieces += [page.heading("Preset files"), *provenance.preset_texts(e)] if e.methods else []
        return page.part("protocol", "How it was made", *pieces)

    def _files(self, parts: Sequence[page.Element]) -> page.Element | None:
        """What is written beside the page: the figures and tables as files. Drawn last: nothing else may fail then."""
        names = write_exhibits(self.experiment.folder, [e for p in parts for e in page.exhibits(p)])
        tables = "The tables as CSV and LaTeX (booktabs), the figures as SVG and PDF, beside this page:"
        return page.part("files", "Files", page.text(tables), page.bullets(names)) if names else None

    def _troubles(self) -> page.Element | None:
        e = self.experiment
        lines = []
        for t in e.troubles:
            what = "the translator " if t.translator else ""
            title = (e.translators if t.translator else e.methods)[t.name].title
            log = f" (log: {t.log})" if t.log else ""
            lines.append(f"{what}{title}, split {t.split}: {t.kind}: {t.error}{log}")
        for name, method in e.methods.items():
            splits = [k for m, k in e.missing if m == name]
            if splits:
                lines.append(f"{method.title}: split{'s' if len(splits) > 1 else ''} {formatting.runs(splits)} "
                             "not run yet")
        lines += [f"no points in the figure of predictions: {line}" for line in self.notes[:MANY]]
        lines += [f"and {len(self.notes) - MANY} more"] if len(self.notes) > MANY else []
        return page.part("missing", "Failed and missing", page.text(state(e)), page.bullets(lines)) if lines else None

    def _reading(self) -> page.Element:
        e = self.experiment
        ratio = size_ratio(e, [k for _, k in e.cells], list(e.methods)) if e.cells else None
        here = f" (here n_test / n_train is {formatting.number(ratio)} on average)" if ratio is not None else ""
        lines = [
            "Difference: the method’s value minus the other’s, on the splits that both finished.",
            "Corrected resampled t-test (Nadeau and Bengio 2003): the splits share training patients, so their "
            "differences are correlated and a plain t-test is too sure of itself. The variance of the mean over J "
            f"splits is taken for (1/J + n_test/n_train) s² instead of s²/J{here}, with J − 1 degrees of freedom, "
            "two-sided. Intervals are by the same standard error.",
            "Holm: the corrected test’s p-values, adjusted for the number of methods in the same table. A DUIIT method "
            "is compared with the methods that use no other source than it does.",
            "Per patient: the predictions of a patient’s slices are averaged before the error is taken; per image: "
            "each slice counts.",
            f"“Supported” is judged by {formatting.NAMES[e.metric]} {formatting.per(e.unit)}. It needs "
            f"p < {SIGNIFICANT} in the corrected test on at least {FEWEST_SPLITS} splits, against the method that "
            "learns from the target’s own images and against the floor. “Not supported” means that these data do not "
            "show it, not that it is "
            "disproved.",
            "The figures hold for these data, sizes and training lengths, and for splits of the same patients: another "
            "hospital’s patients are a further step.",
        ]
        pure = baseline(e)
        if pure is not None:
            lines.insert(1, f"{pure.title} learns from the labelled target images alone.")
        return page.part("reading", "How to read this", page.bullets(lines))


def _warnings(experiment: Experiment) -> list[str]:
    """What a reader has to know before any figure."""
    lines = [IMAGE_SPLIT] if experiment.settings.get("split_by") == "image" else []
    uneven = []
    for split in experiment.splits:
        cells = [experiment.cells[name, split] for name in experiment.methods if (name, split) in experiment.cells]
        for facts in ([c.errors[experiment.unit].get("n") for c in cells], [c.record.get("split_seed") for c in cells]):
            if len(set(facts) - {None}) > 1 and split not in uneven:
                uneven.append(split)
    if uneven:
        lines.append(f"The methods were not tested on the same images in split {', '.join(map(str, uneven))}: the "
                     "comparisons there are not of like with like.")
    return lines
