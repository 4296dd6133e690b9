"""What the cells come to: each method's mean error, and every DUIIT method against the others on the same splits.

One sign convention throughout: a difference is the method's value minus the other's. `gain` turns it so that positive
is better, whichever way the metric counts.
"""
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from duiit.util.statistics import PairedTest, corrected_t_test, holm, paired_t_test, summary
from duiit_cli.experiments.reporting.results import FLOOR, HIGHER_IS_BETTER, LISTED, Experiment, Method

Summaries = dict[str, dict[str, dict[str, Any]]]     # {method: {metric: its summary over the splits}}
SIGNIFICANT = 0.05      # of the corrected resampled t-test, for a verdict
PAPER = 0.1             # of the plain paired t-test: the paper's own threshold
FEWEST_SPLITS = 5       # with fewer, a test is a matter of luck: no verdict is given


@dataclass(frozen=True)
class Comparison:
    """`method` against `other` on the splits that both finished, by one metric and unit."""
    method: str
    other: str
    unit: str
    metric: str
    splits: tuple[int, ...]
    differences: tuple[float, ...]              # method - other, one a split
    mean: float | None              # of the method, on these splits
    other_mean: float | None
    ratio: float | None             # n_test / n_train, for the correction
    paired: PairedTest
    corrected: PairedTest
    holm: float | None = None       # the corrected p-value, further corrected for how many comparisons were made

    @property
    def gain(self) -> float | None:
        """How much better the method is on average; negative where it is worse."""
        return self._turned(self.corrected.difference)

    @property
    def share(self) -> float | None:
        """The gain as a share of the other's error; None where that is zero, and of what is a share itself."""
        if self.gain is None or not self.other_mean or self.metric in HIGHER_IS_BETTER:
            return None
        return self.gain / self.other_mean

    @property
    def ahead(self) -> bool:
        """Whether the method is better on average, by whatever little."""
        return self.gain is not None and self.gain > 0

    @property
    def decided(self) -> bool:
        """Whether there are enough splits, and a test, to say anything."""
        return len(self.splits) >= FEWEST_SPLITS and self.corrected.p is not None

    @property
    def _clear(self) -> bool:
        return self.decided and self.corrected.p is not None and self.corrected.p < SIGNIFICANT

    @property
    def better(self) -> bool:
        return self._clear and self.ahead

    @property
    def worse(self) -> bool:
        return self._clear and self.gain is not None and self.gain < 0

    def _turned(self, value: float | None) -> float | None:
        return value if value is None or self.metric in HIGHER_IS_BETTER else -value


def compare(experiment: Experiment, method: str, other: str, unit: str | None = None,
            metric: str | None = None) -> Comparison:
    """Two methods (names; FLOOR is one) on the splits that both finished; no Holm."""
    unit, metric = unit or experiment.unit, metric or experiment.metric
    a, b = experiment.values(method, unit, metric), experiment.values(other, unit, metric)
    splits = tuple(k for k in a if k in b)
    a, b = [a[k] for k in splits], [b[k] for k in splits]
    ratio = size_ratio(experiment, splits, (method, other))
    # Without the sizes the correction is not known, and an uncorrected test under its name would be a false one.
    corrected = corrected_t_test(a, b, ratio) if ratio is not None else PairedTest(
        len(splits), summary(x - y for x, y in zip(a, b, strict=True))["mean"])
    return Comparison(method, other, unit, metric, splits, tuple(x - y for x, y in zip(a, b, strict=True)),
                      summary(a)["mean"], summary(b)["mean"], ratio, paired_t_test(a, b), corrected)


def against_others(experiment: Experiment, method: str, unit: str | None = None) -> list[Comparison]:
    """A DUIIT method against each method that a reader may hold it against, with Holm's correction over all of these.

    Those are the floor, the methods without a source, and those whose sources are among its own: what PET does is no
    yardstick for borrowing MRI, and each further comparison would cost the others power. Of two DUIIT methods with the
    same sources only the later one is compared, so that no pair is counted twice.
    """
    ours = experiment.methods[method]
    order = list(experiment.methods)
    names = [FLOOR] if experiment.values(FLOOR, unit or experiment.unit, experiment.metric) else []
    for other in experiment.methods.values():
        twin = other.role == "duiit" and set(other.sources) == set(ours.sources)
        if other.name != method and set(other.sources) <= set(ours.sources) and not (
                twin and order.index(other.name) > order.index(method)):
            names.append(other.name)
    found = [compare(experiment, method, name, unit) for name in names]
    adjusted = holm([c.corrected.p for c in found])
    return [replace(c, holm=p) for c, p in zip(found, adjusted, strict=True)]


def size_ratio(experiment: Experiment, splits: Iterable[int], names: Sequence[str]) -> float | None:
    """n_test / n_train of real target patients (or images, where the splits are drawn by image): what is resampled.

    The mean over the splits, as counted in the cells; from the settings' fractions where the cells do not say.
    """
    what = "images" if experiment.settings.get("split_by") == "image" else "patients"
    ratios = []
    for split in splits:
        cells = [experiment.cells[name, split] for name in names if (name, split) in experiment.cells]
        ratios += [r for r in (_ratio(cell.counts, what) for cell in cells[:1]) if r is not None]
    if ratios:
        return sum(ratios) / len(ratios)
    val, test = (experiment.settings.get(f"{part}_fraction") for part in ("val", "test"))
    if isinstance(val, (int, float)) and isinstance(test, (int, float)) and val + test < 1:
        return test / (1 - val - test)
    return None


def summaries(experiment: Experiment, unit: str) -> Summaries:
    """{method name (FLOOR first): {metric: {n, mean, sd}}} over the splits that each method finished."""
    return {name: {metric: summary(experiment.values(name, unit, metric).values())
                   for metric in LISTED[experiment.task]} for name in (FLOOR, *experiment.methods)}


def baseline(experiment: Experiment) -> Method | None:
    """The method that learns from the target's own images alone, or None."""
    return next(iter(experiment.named("pure")), None)


def _ratio(counts: Mapping[str, Any], what: str) -> float | None:
    try:
        test, train = counts["test"][what], counts["train"][what]
        return test / train if test > 0 and train > 0 else None
    except (KeyError, TypeError):
        return None
