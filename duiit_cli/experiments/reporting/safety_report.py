"""The report's section on what a translator does to the ventricles, from each quality.json."""
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from duiit.util.statistics import summary
from duiit_cli.experiments.reporting import formatting, page
from duiit_cli.experiments.reporting.results import Experiment
from duiit_cli.experiments.reporting.safety import OFF

PARTS = {"held_out": "held out", "trained_on": "trained on"}
READING = (
    "The width of the ventricles in synthetic CTs, against the true CTs of the same patients: the share of the inside "
    "of the skull that is fluid in the middle of the brain, averaged over a patient’s slices. Bias: synthetic minus "
    "true. Scatter: standard deviation of that difference over the patients. Slope: of synthetic on true, 1 where "
    "patients keep their differences, 0 where all come out alike, above 1 where they are exaggerated. "
    "Mean ± standard deviation over the splits.")
WARNING = ("A translator can be harmless here and still do harm elsewhere: nothing but one width is measured. "
           "Synthetic images are for training networks, never for diagnosis.")


def section(experiment: Experiment) -> page.Element | None:
    """The section, or None where no translator was asked."""
    found = [(name, source, measured) for (name, _), quality in experiment.qualities.items()
             for source, parts in quality["sources"].items()
             if isinstance(parts, dict) and isinstance(measured := parts.get("ventricles"), dict)]
    if not found:
        return None
    pieces = []
    for source in dict.fromkeys(source for _, source, _ in found):
        pieces += [page.heading(f"{source.upper()} → {experiment.target.upper()}"),
                   *_of_source(experiment, [(name, m) for name, s, m in found if s == source])]
    return page.part("safety", "Does it do harm?", page.text(READING), *pieces, page.note(WARNING))


def _of_source(experiment: Experiment, found: Sequence[tuple[str, dict[str, Any]]]) -> list[page.Element]:
    measured = [(name, m) for name, m in found if "not_measured" not in m]
    reasons = dict.fromkeys(str(m["not_measured"]) for _, m in found if "not_measured" in m)
    notes = [page.note(f"Not measured: {reason}.") for reason in reasons]
    if not measured:
        return notes
    unit = experiment.settings.get("label_unit") or "label units"
    rows = [_row(experiment, name, part, [m[part] for n, m in measured if n == name and isinstance(m.get(part), dict)])
            for name in dict.fromkeys(name for name, _ in measured) for part in PARTS]
    header = ["translator", "patients", "splits", "bias (%)", "scatter (%)", "slope", f"bias ({unit})",
              f"scatter ({unit})", *(f"off by more than {n} {unit}" for n in OFF)]
    table = page.grid(header, [r for r in rows if r], left=2)
    return [table, page.note(_scale([m for _, m in measured], unit)), *notes]


def _row(experiment: Experiment, name: str, part: str, figures: Sequence[Mapping[str, Any]]) -> list[Any] | None:
    if not figures:
        return None

    def told(key: str) -> str:
        return formatting.mean_sd(summary([f[key] for f in figures if f.get(key) is not None]))

    shares = [[f[f"off_{n}"] for f in figures if f.get(f"off_{n}") is not None] for n in OFF]
    return [experiment.translators[name].title, PARTS[part], len(figures), *(told(k) for k in (
        "bias", "sd", "slope", "bias_label", "sd_label")),
        *(formatting.percent(sum(s) / len(s)) if s else formatting.DASH for s in shares)]


def _scale(measured: Iterable[Mapping[str, Any]], unit: str) -> str:
    """What the conversion into label units rests on, or why there is none."""
    scales = [m["scale"] for m in measured if isinstance(m.get("scale"), dict) and m["scale"].get("sound")]
    if not scales:
        return (f"No conversion into {unit}: in the true CTs the width does not clearly go with the label, or fewer "
                "than ten labelled patients have a true CT.")
    slope, r = (sum(s[k] for s in scales) / len(scales) for k in ("slope", "pearson_r"))
    return (f"%: of the inside of the skull. In the true CTs one of the {unit} is worth {formatting.number(slope)} %; "
            f"width and label have a correlation of {formatting.number(r, 'pearson_r')} there.")
