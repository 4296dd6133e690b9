"""What the experiment says, in words that claim no more than its splits bear out.

For each DUIIT method: does borrowing its source help (against the target's images alone, and against answering without
looking at the image), does the coupling help (against a CycleGAN), which plain methods do as well, and could any
translation help.
A claim needs the corrected resampled t-test below 0.05 on at least five splits.
"""
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from duiit.util.problems import counted
from duiit_cli.experiments.reporting import formatting
from duiit_cli.experiments.reporting.comparison import (
    FEWEST_SPLITS,
    PAPER,
    SIGNIFICANT,
    Comparison,
    against_others,
    baseline,
    compare,
)
from duiit_cli.experiments.reporting.results import FLOOR, Experiment, Method

MOST_NAMED = 5          # methods in one sentence; the tables have them all
SUPPORTED, NOT_SUPPORTED, AGAINST, OPEN = "supported", "not supported", "against", "open"


@dataclass(frozen=True)
class Verdict:
    """tone: SUPPORTED, NOT_SUPPORTED, AGAINST or OPEN. line: the answer in one sentence; details: what qualifies it."""
    method: str
    tone: str
    line: str
    details: tuple[str, ...] = ()


def verdicts(experiment: Experiment) -> list[Verdict]:
    return [_Judge(experiment, method).verdict() for method in experiment.named("duiit")]


class _Judge:
    def __init__(self, experiment: Experiment, method: Method) -> None:
        self.experiment, self.method = experiment, method
        self.metric = formatting.NAMES[experiment.metric]
        self.borrowed = "+".join(s.upper() for s in method.sources) or "other images"
        self.others = {c.other: c for c in against_others(experiment, method.name)}

    def verdict(self) -> Verdict:
        tone, line = self._headline()
        details = [self._chosen(), self._other_unit(), self._paper(), self._holm(), self._floor(), self._coupling(),
                   *self._baselines(), *self._headroom()] if self.experiment.values(
            self.method.name, self.experiment.unit, self.experiment.metric) else []
        return Verdict(self.method.name, tone, line, tuple(d for d in details if d))

    def _chosen(self) -> str | None:
        """What validation patients took, of a method that chooses."""
        e = self.experiment
        taken = [cell.record["chosen"] for (name, _), cell in e.cells.items()
                 if name == self.method.name and cell.record.get("chosen") in e.methods]
        named = [f"{e.methods[m].title} on {taken.count(m)}" for m in e.methods if m in taken]
        return f"Of {counted(len(taken), 'split')}, validation patients chose {', '.join(named)}." if taken else None

    # -- the headline ------------------------------------------------------------------------------------------

    def _headline(self) -> tuple[str, str]:
        title, pure = self.method.title, baseline(self.experiment)
        if pure is None:
            return OPEN, (f"{title}: cannot say whether borrowing {self.borrowed} helps: no method of the experiment "
                          "learns from the target's own images alone.")
        found = self.others[pure.name]
        if found.corrected.n == 0:
            return OPEN, (f"{title}: cannot say whether borrowing {self.borrowed} helps: there is no split yet that it "
                          f"and {pure.title} both finished.")
        if not found.decided:
            return OPEN, f"{title}: cannot say whether borrowing {self.borrowed} helps: {self._undecided(found)}"
        if found.better:
            return self._gained(found, pure)
        if found.worse:
            return AGAINST, (f"{title} {self._effect(found)} against {pure.title} ({evidence(found)}): these data "
                             f"speak against borrowing {self.borrowed}.")
        return NOT_SUPPORTED, (f"{title}: these data do not support borrowing {self.borrowed}: its {self.metric} is "
                               f"{self._signed(found)} against that of {pure.title} ({evidence(found, signed=True)}), "
                               "which the choice of the splits alone could explain.")

    def _gained(self, found: Comparison, pure: Method) -> tuple[str, str]:
        """Better than the baseline; yet a baseline that is worse than not looking at the image is easily beaten."""
        start = f"{self.method.title} {self._effect(found)} against {pure.title} ({evidence(found)})"
        floor = self.others.get(FLOOR)
        if floor is None or not floor.corrected.n:
            return OPEN, (f"{start}, but what {self._floor_name()} would give is not known: cannot say whether "
                          f"borrowing {self.borrowed} helps.")
        if not floor.better:
            how = "not shown to be better" if floor.ahead else "no better"
            return NOT_SUPPORTED, (f"{start}, but it is {how} than {self._floor_name()}: these data do not support "
                                   f"borrowing {self.borrowed}.")
        only = " for further images of the same patients; the splits are by image, so they show nothing about new " \
               "patients" if self.experiment.settings.get("split_by") == "image" else ""
        return SUPPORTED, f"{start}: these data support borrowing {self.borrowed}{only}."

    def _undecided(self, found: Comparison, whose: str | None = None) -> str:
        """Why there is no verdict, and the means so far, of this method or `whose`."""
        n = found.corrected.n
        subject = f"its {self.metric}" if whose is None else f"the {self.metric} of {whose}"
        so_far = f"So far {subject} is {self._means(found)} of {self._called(found.other)}."
        if n < FEWEST_SPLITS:
            return f"{splits(n)} {'is' if n == 1 else 'are'} too few (at least {FEWEST_SPLITS} are needed). {so_far}"
        why = "the sizes of the splits are not known" if found.ratio is None else "it does not vary over the splits"
        return f"the difference cannot be tested, since {why}. {so_far}"

    # -- what qualifies it -------------------------------------------------------------------------------------

    def _other_unit(self) -> str | None:
        pure = baseline(self.experiment)
        for unit in self.experiment.units[1:]:
            found = compare(self.experiment, self.method.name, pure.name, unit) if pure else None
            if pure and found and found.corrected.n:
                return (f"Counted {formatting.per(unit)} instead of {formatting.per(self.experiment.unit)}, the "
                        f"{self.metric} is {self._signed(found)} against {pure.title} "
                        f"({evidence(found, signed=True)}).")
        return None

    def _paper(self) -> str | None:
        pure = baseline(self.experiment)
        found = self.others[pure.name] if pure else None
        p = found.paired.p if found else None
        if found is None or p is None:
            return None
        gain = found.ahead
        met = "is met" if p < PAPER and gain else "is met, in the wrong direction" if p < PAPER else "is not met"
        return (f"The paper’s own criterion (paired t-test, p < {PAPER}) {met}: {formatting.equals(p)}. It takes the "
                "splits for independent, which they are not, and is shown for comparison only.")

    def _holm(self) -> str | None:
        pure = baseline(self.experiment)
        found = self.others[pure.name] if pure else None
        if found is None or not found.better or found.holm is None or found.holm < SIGNIFICANT:
            return None
        return (f"The finding does not outlast Holm's correction for the {len(self.others)} methods it is compared "
                f"with ({formatting.equals(found.holm)}).")

    def _floor(self) -> str:
        found = self.others.get(FLOOR)
        if found is None or not found.corrected.n:
            return f"What {self._floor_name()} would give is not known, so nothing says whether it learned anything."
        if not found.ahead:
            moral = " A predictor that is no better than not looking at the image has learned nothing of use." \
                if found.decided else ""
            return f"It does not beat {self._floor_name()}: {self._means(found)} ({evidence(found, True)}).{moral}"
        if found.better:
            return f"It beats {self._floor_name()}: {self._means(found)} ({evidence(found)})."
        return f"It is not shown to beat {self._floor_name()}: {self._means(found)} ({evidence(found, True)})."

    def _coupling(self) -> str:
        plain = self.experiment.named("cyclegan", self.method.sources)
        found = self.others.get(plain[0].name) if plain else None
        if found is None or not found.corrected.n:
            return ("Whether the coupling of translator and predictor helps cannot be said: there is no CycleGAN with "
                    "the same sources on the same splits.")
        title = self._called(plain[0].name)
        what = "coupling" if self.method.translator else "choice"
        if not found.decided:
            return f"Whether the {what} helps cannot be said: {self._undecided(found)}"
        if found.better:
            return f"The {what} helps: against {title} it {self._effect(found)} ({evidence(found)})."
        if found.worse:
            return f"The {what} harms: against {title} it {self._effect(found)} ({evidence(found)})."
        return (f"The {what} is not shown to help: against {title} its {self.metric} is {self._signed(found)} "
                f"({evidence(found, signed=True)}).")

    def _baselines(self) -> Iterator[str]:
        """Methods one could use instead: neither the floor, nor what needs images that nobody has, nor DUIIT itself."""
        plain = [c for c in self.others.values() if c.corrected.n
                 and self.experiment.method(c.other).role not in ("floor", "oracle", "duiit")]
        plain.sort(key=lambda c: c.gain or 0)                # the strongest rivals are named, where not all can be
        ahead = [c for c in plain if not c.ahead]
        if not plain:
            return
        if ahead:
            named = [f"{self._called(c.other)} ({self._number(c.mean)} against {self._number(c.other_mean)}"
                     f"{', a clear difference' if c.worse else ''})" for c in ahead]
            yield f"It does no better on average than: {several(named, '; ')}."
        beaten = [self._called(c.other) for c in plain if c.better]
        if not any(c.decided for c in plain):
            return
        if beaten:
            yield f"It is clearly better than: {several(beaten, ', ')}."
        else:
            yield "It is clearly better than none of the other methods."

    def _headroom(self) -> Iterator[str]:
        """Whether even a perfect translation would have helped."""
        pure = baseline(self.experiment)
        for oracle in self.experiment.named("oracle"):
            found = compare(self.experiment, oracle.name, pure.name) if pure else None
            if pure is None or found is None or not found.corrected.n:
                continue
            if not set(oracle.sources) <= set(self.method.sources):
                continue
            title, means = self._called(oracle.name), self._means(found)
            if not found.decided:
                yield f"Whether any translation could help cannot be said: {self._undecided(found, title)}"
            elif not found.ahead:
                yield (f"No translation can help here: even with the true target images of the source patients, "
                       f"{title} does no better than {pure.title}: {means} ({evidence(found, True)}). Where a perfect "
                       "translation does not help, a learned one cannot be expected to.")
            elif not found.better:
                yield (f"Whether any translation could help is not shown: {title} has {means} of {pure.title} "
                       f"({evidence(found, True)}).")
            else:
                yield (f"Translation can help: {title} {self._effect(found)} against {pure.title} ({evidence(found)})"
                       f"{self._closed(found)}.")

    def _closed(self, oracle: Comparison) -> str:
        """The share of the oracle's gain that the method reaches, on the splits that all three finished."""
        unit, metric = self.experiment.unit, self.experiment.metric
        ours, best, pure = (self.experiment.values(name, unit, metric)
                            for name in (self.method.name, oracle.method, oracle.other))
        common = [k for k in ours if k in best and k in pure]
        room = sum(pure[k] - best[k] for k in common)
        reached = formatting.percent(sum(pure[k] - ours[k] for k in common) / room) if room else ""
        return f"; {self.method.title} reaches {reached} of that" if room else ""

    # -- words -------------------------------------------------------------------------------------------------

    def _number(self, value: float | None) -> str:
        return formatting.number(value, self.experiment.metric)

    def _unit(self) -> str:
        unit = formatting.unit_of(self.experiment.metric, self.experiment.settings)
        return f" {unit}" if unit else ""

    def _floor_name(self) -> str:
        return "always answering " + self.experiment.floor.title.removeprefix("Always ")

    def _called(self, name: str) -> str:
        """A title as it stands in a sentence: in quotes, where it is more than a word."""
        title = self.experiment.method(name).title
        return f"“{title}”" if " " in title else title

    def _effect(self, found: Comparison) -> str:
        """`lowers the mean squared error by 31.2 years² (24 %)`."""
        verb = "lowers" if (found.corrected.difference or 0) < 0 else "raises"
        share = f" ({formatting.percent(abs(found.share))})" if found.share is not None else ""
        return f"{verb} the {self.metric} by {self._number(abs(found.gain or 0))}{self._unit()}{share}"

    def _signed(self, found: Comparison) -> str:
        """`lower by 3.1 years² (4 %)`, `equal`."""
        if not found.corrected.difference:
            return "the same"
        share = f" ({formatting.percent(abs(found.share))})" if found.share is not None else ""
        way = "lower" if found.corrected.difference < 0 else "higher"
        return f"{way} by {self._number(abs(found.gain or 0))}{self._unit()}{share}"

    def _means(self, found: Comparison) -> str:
        return f"{self._number(found.mean)} against {self._number(found.other_mean)}{self._unit()}"


def evidence(found: Comparison, signed: bool = False) -> str:
    """`95 % CI 3.1 to 59.3; corrected resampled t-test p = 0.03, 10 splits`.

    signed: the interval of the difference, method minus other, with its signs; otherwise that of the effect's size.
    """
    test = found.corrected
    if test.p is None or test.difference is None or test.low is None or test.high is None:
        return f"{splits(test.n)}, no test"
    low, high = (-test.high, -test.low) if not signed and test.difference < 0 else (test.low, test.high)
    what = "95 % CI of the difference" if signed else "95 % CI"
    return (f"{what} {formatting.interval(low, high, found.metric, sign=signed)}; corrected resampled t-test "
            f"{formatting.equals(test.p)}, {splits(test.n)}")


def several(names: Sequence[str], between: str) -> str:
    """The first MOST_NAMED of them, and how many more there are."""
    more = len(names) - MOST_NAMED
    return between.join(names[:MOST_NAMED]) + (f" and {more} more" if more > 0 else "")


def splits(n: int) -> str:
    return f"{n} split" + ("" if n == 1 else "s")
