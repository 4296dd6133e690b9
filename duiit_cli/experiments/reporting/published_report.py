"""Ours beside what was published, in the paper's Tables 2 to 7. The data are others, so of the errors only the order of
the methods and their change against the target alone can be held against each other."""
from collections.abc import Iterator, Mapping, Sequence

from duiit.util.statistics import summary
from duiit_cli.experiments.reporting import formatting, page
from duiit_cli.experiments.reporting.comparison import Comparison, baseline, compare
from duiit_cli.experiments.reporting.published import MeanSd, Published
from duiit_cli.experiments.reporting.results import LISTED, Experiment
from duiit_cli.experiments.reporting.translation_tables import of_pixels, quality_figures

HEADING = "Beside the published figures (the paper’s Tables 2 to 7)"
# The rows of the paper's tables of errors. PURE-CT stands in each: the changes are against it.
ERRORS = (
    ("Table 2: what is borrowed", ("duiit_mri", "duiit_pet", "duiit_mri_pet")),
    ("Table 3, MRI → CT: other ways to use the source",
     ("transfer_mri", "multitask_mri", "dann_mri", "cyclegan_mri", "duiit_mri")),
    ("Table 3, PET → CT: other ways to use the source",
     ("transfer_pet", "multitask_pet", "dann_pet", "cyclegan_pet", "duiit_pet")),
    ("Table 4: augmentation", ("simple_augment", "autoaugment", "random_erasing", "duiit_mri", "duiit_pet")),
)
P_VALUES = {"duiit_mri": "Table 6: ", "duiit_pet": "Table 7: "}
# Figures of images: as they are published, as quality.json names them, as they are headed.
IMAGES = (("fid", "fid", "FID ↓"), ("inception_score", "is_mean", "Inception Score ↑"), ("kid", "kid_mean", "KID ↓"),
          ("psnr", "psnr", "PSNR (dB) ↑"), ("ssim", "ssim", "SSIM ↑"))


def section(experiment: Experiment, published: Published, names: Mapping[str, str]) -> page.Element | None:
    """The part of the page, or None where nothing published is of this experiment's methods. names: {method: title} of
    the methods that an experiment could have."""
    pieces = [*_errors(experiment, published, names), *_images(experiment, published),
              *_p_values(experiment, published, names)]
    if not pieces:
        return None
    named = f" ({published.source})" if published.source else ""
    mind = (f"What was published{named} is of another data set, split by image; not comparable in absolute value with "
            "the figures found here. Compare the order of the methods, and their change against the target alone.")
    return page.part("published", HEADING, page.card("warning", "Other data", mind), *pieces)


# -- Tables 2 to 4 -----------------------------------------------------------------------------------------------

def _errors(experiment: Experiment, published: Published, names: Mapping[str, str]) -> Iterator[page.Element]:
    listed = {name for _, group in ERRORS for name in group}
    others = tuple(n for n in experiment.methods if n not in listed and experiment.methods[n].role != "pure")
    for title, group in (*ERRORS, ("Other methods", others)):
        shown = [n for n in group if n in published.figures]
        metrics = [m for m in LISTED[experiment.task] if any(published.figure(n, m) for n in shown)]
        own = [n for n in shown if n not in ERRORS[0][1]] or shown      # DUIIT alone is what Table 2 is of
        if metrics and any(n in experiment.methods for n in own):
            rows = ["pure_ct", *shown] if "pure_ct" in published.figures else shown
            yield page.heading(title)
            yield from (_error_table(experiment, published, rows, metric, names, title) for metric in metrics)


def _error_table(experiment: Experiment, published: Published, shown: Sequence[str], metric: str,
                 names: Mapping[str, str], title: str) -> page.Element:
    pure, short = baseline(experiment), formatting.SHORT[metric]
    header = ["method", "splits", *(f"{short} {formatting.per(u)}, here" for u in experiment.units),
              f"{short}, published", "change against PURE-CT, here", "change, published"]
    start = published.figure("pure_ct", metric)
    rows = []
    for name in shown:
        ours = {u: summary(experiment.values(name, u, metric).values()) if name in experiment.methods else {
            "n": 0, "mean": None} for u in experiment.units}
        theirs = published.figure(name, metric)
        change = told = None
        if theirs and start and name != "pure_ct":
            told = _change(theirs["mean"], start["mean"])
        if pure and name in experiment.methods and name != pure.name:
            found = compare(experiment, name, pure.name, metric=metric)
            change = _change(found.mean, found.other_mean)
        rows.append([names.get(name, name), ours[experiment.unit]["n"] or formatting.DASH,
                     *(formatting.mean_sd(ours[u], metric) for u in experiment.units), _formatted(theirs, metric),
                     _share(change), _share(told)])
    name = f"published_{formatting.file_name(title.split(':')[0])}_{metric}"
    return page.grid(header, rows, name=name, caption=title)


def _formatted(figure: MeanSd | None, metric: str | None = None) -> str:
    """As it was published, two places behind the point."""
    if figure is None:
        return formatting.DASH
    places = 3 if metric in formatting.UNITLESS else 2
    return f"{figure['mean']:.{places}f}" + ("" if figure["sd"] is None else f" ± {figure['sd']:.{places}f}")


def _change(value: float | None, start: float | None) -> float | None:
    return None if value is None or not start else (value - start) / abs(start)


def _share(change: float | None) -> str:
    if change is None:
        return formatting.DASH
    return f"{'+' if change > 0 else formatting.MINUS if change < 0 else ''}{formatting.percent(abs(change))}"


# -- Table 5 -----------------------------------------------------------------------------------------------------

def _images(experiment: Experiment, published: Published) -> Iterator[page.Element]:
    names = [n for n in experiment.translators if any(published.figure(n, key) for key, _, _ in IMAGES)]
    keys = [k for k in IMAGES if any(published.figure(n, k[0]) for n in names)]
    if not keys:
        return
    header = ["translator", *(f"{head}, {whose}" for _, _, head in keys for whose in ("here", "published"))]
    rows = []
    for name in names:
        method = experiment.translators[name]
        found = quality_figures(experiment, name, method.sources[0]) if method.sources else {}
        cells = []
        for key, own, _ in keys:
            values = found.get(("distribution", own)) or of_pixels(found, own)
            cells += [formatting.mean_sd(summary(values)), _formatted(published.figure(name, key))]
        rows.append([method.title, *cells])
    yield page.heading("Table 5: quality of the translations")
    yield page.grid(header, rows, name="published_table_5", caption="Quality of the translations")
    if any(row[1] == formatting.DASH for row in rows):
        yield page.note("FID and the Inception Score are computed here only with --fid_weights. Both depend on the "
                        "number of images.")


# -- Tables 6 and 7 ----------------------------------------------------------------------------------------------

def _p_values(experiment: Experiment, published: Published, names: Mapping[str, str]) -> Iterator[page.Element]:
    for method in experiment.methods:
        theirs = published.p_values.get(method, {})
        if not any(other in experiment.methods for other in theirs):
            continue
        rows = []
        for other, p in theirs.items():
            found = compare(experiment, method, other) if other in experiment.methods else None
            ours = [found.corrected.n or formatting.DASH, *_better(found), formatting.p_value(found.paired.p),
                    formatting.p_value(found.corrected.p)] if found else [formatting.DASH] * 4
            rows.append([names.get(other, other), *ours, "< 0.0005" if p == 0 else f"{p:.3f}"])
        yield page.heading(f"{P_VALUES.get(method, '')}p-values of {names.get(method, method)} against")
        yield page.grid(["against", "splits", "better here", "p, paired t-test, here",
                         "p, corrected resampled t-test, here", "p, published"], rows,
                        name=f"published_p_values_{method}", caption=f"p-values of {names.get(method, method)}")


def _better(found: Comparison) -> list[str]:
    """Which of the two has the better mean here: a p-value alone does not say."""
    if found.gain is None:
        return [formatting.DASH]
    return ["equal" if not found.gain else "this method" if found.gain > 0 else "the other"]
