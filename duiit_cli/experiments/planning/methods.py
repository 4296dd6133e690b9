"""The methods that can be compared, each a preset with a `[method]` table: what is trained, on what, in which order.

A method's last training is always a predictor on the target. Before it there may be a translator (whose translated
images join the training images) and a start (a training whose weights the predictor begins with).
"""
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from typing import Any

from duiit.options import presets
from duiit.options.parsing import nearest
from duiit.util.errors import UserError
from duiit.util.files import file_name

# In the order in which they are shown. What ends on _ takes a source's name: duiit_ is duiit_mri, duiit_pet, …
FAMILIES = ("pure_ct", "simple_augment", "autoaugment", "random_erasing", "raw_", "transfer_", "multitask_", "dann_",
            "cyclegan_", "duiit_", "chosen_", "oracle_")
BASELINE = "pure_ct"
NAMED = ("mri", "pet")      # sources that have presets of their own
ALIKE = "mri"               # a source that no preset names is trained on with this one's settings
TOGETHER = "mri_pet"        # and several sources together with these two's, by the families that can


@dataclass(frozen=True)
class Method:
    """translator, start, predictor: {option: value} of a training, None where there is none. extra: `truth` where the
    true target images of the source patients are mixed in. choose: names of the methods of which validation patients
    choose one, where a method is no training of its own."""
    name: str
    title: str
    row: str
    table: str
    sources: tuple[str, ...]
    predictor: dict[str, Any] | None = None
    translator: dict[str, Any] | None = None
    start: dict[str, Any] | None = None
    extra: str | None = None
    choose: tuple[str, ...] = ()
    recipe: str = field(default="", compare=False)

    @property
    def role(self) -> str:
        """What the report compares it as: pure, oracle, cyclegan, duiit, or nothing in particular."""
        if self.name == BASELINE or self.extra == "truth":
            return "pure" if self.name == BASELINE else "oracle"
        if self.choose:
            return "duiit"
        if not self.translator:
            return ""
        uncoupled = self.translator.get("lambda_pred") == 0 or self.translator.get("guidance") == "detached"
        return "duiit" if self.translator.get("model", "duiit") == "duiit" and not uncoupled else "cyclegan"


def available(sources: Sequence[str], target: str = "ct") -> dict[str, Method]:
    """{name: Method}: every method of the presets for these sources (names of folders)."""
    found = {}
    for family in FAMILIES:
        if not family.endswith("_"):
            found[family] = load(family, {}, target)
            continue
        for source in sources:
            own = f"{family}{source}"
            known = source.lower() if source.lower() in NAMED else ALIKE
            found[own] = load(f"{family}{known}", {} if known == source else {known: source}, target, own)
        name = family + "_".join(sources)
        if len(sources) > 1 and name not in found and f"{family}{TOGETHER}" in presets.names():
            found[name] = load(f"{family}{TOGETHER}", {}, target, name, sources)
    return found


def choose(words: str | None, sources: Sequence[str], root: str | PathLike[str], target: str = "ct",
           labelled: Sequence[str] | None = None) -> tuple[list[Method], list[str]]:
    """([Method, …], [refusal, …]) for --methods: what the data allow, and one line on each that they do not.

    words: None for all. labelled: the sources that have labels (default: all). PURE-CT is always among the methods:
    everything is compared with it.
    """
    labelled = sources if labelled is None else labelled
    there = available(sources, target)
    wanted: dict[str, Method] = {}
    refused: list[str] = []
    for word in (w.strip() for w in (words.split(",") if words else there) if w.strip()):
        for name, method in _meant(word, there, target).items():
            reason = _impossible(method, sources, root, target, labelled)
            if name in wanted and wanted[name] != method:
                raise UserError(f"--methods {word}: there is a method {name} already; give the file another name")
            if reason is None and (words or method.role != "oracle" or target.lower() == "ct"):
                wanted[name] = method
            elif words:
                refused.append(f"--methods {name}: {reason}; it is left out")
    if not wanted:
        raise UserError("; ".join(refused) or "--methods names no method")
    order = [BASELINE, *there, *wanted]
    known = {**there, **wanted}
    needed = {name: _candidate(name, method, known, lambda m: _impossible(m, sources, root, target, labelled))
              for method in wanted.values() for name in method.choose}
    return sorted({BASELINE: there[BASELINE], **needed, **wanted}.values(), key=lambda m: order.index(m.name)), refused


def _candidate(name: str, method: Method, known: Mapping[str, Method],
               impossible: Callable[[Method], str | None]) -> Method:
    """One of the methods that `method` chooses from; they are compared too, whether they were asked for or not."""
    found = known.get(name)
    if found is None or found.choose or not found.predictor:
        raise UserError(f"--methods {method.recipe}: it chooses from {name}, which is no method that is trained here; "
                        f"there are {', '.join(n for n, m in known.items() if not m.choose)}")
    if impossible(found):
        raise UserError(f"--methods {method.recipe}: it chooses from {name}, which {impossible(found)}")
    return found


def _meant(word: str, there: Mapping[str, Method], target: str) -> dict[str, Method]:
    if word.endswith(".toml"):
        method = load(word, {}, target, Path(word).stem)
        if method.name in there or file_name(method.name) != method.name:
            raise UserError(f"--methods {word}: {method.name} is a built-in method's name, or none for a folder; give "
                            "the file another one")
        return {method.name: method}
    family = {n: m for n, m in there.items() if n.startswith(f"{word}_") and f"{word}_" in FAMILIES}
    if word not in there and not family and word in presets.names() and "method" in presets.read(word):
        return {word: load(word, {}, target)}       # of a source that these data lack
    if word not in there and not family:
        known = [*there, *(f[:-1] for f in FAMILIES if f.endswith("_"))]
        raise UserError(f"--methods {word}: no such method; there are {', '.join(known)}{nearest(word, known)}")
    return {word: there[word]} if word in there else family


def _impossible(method: Method, sources: Sequence[str], root: str | PathLike[str], target: str,
                labelled: Sequence[str]) -> str | None:
    missing = [s for s in method.sources if s not in sources]
    if missing:
        return f"needs the source {missing[0]}, and {root} has {', '.join(sources) or 'no source'} beside {target}"
    unlabelled = [s for s in method.sources if s not in labelled]
    if unlabelled:
        return f"needs labels of the {unlabelled[0]} images, and {Path(root) / unlabelled[0]} has none"
    untold = [s for s in method.sources if not (Path(root) / "truth" / s).is_dir()] if method.extra else []
    if untold:
        return f"needs the true {target} images of the {untold[0]} patients in {Path(root) / 'truth' / untold[0]}"
    return None


def load(name_or_file: str, renamed: Mapping[str, str], target: str = "ct", name: str | None = None,
         together: Sequence[str] = ()) -> Method:
    """The method of a preset, with its sources `renamed` ({its: ours}), or all of `together` in place of its own.

    Raises UserError for a preset that is not a method's.
    """
    values = presets.read(name_or_file)
    about = values.get("method", {})
    if not {"title", "table"} <= set(about) or ("predictor" not in values) == ("choose" not in about):
        raise UserError(f"--methods {name_or_file}: not a method: its file needs [method] with title and table, and "
                        "either [predictor] or, in [method], what to choose from")
    sources = tuple(together) or tuple(renamed.get(s, s) for s in about.get("sources", ()))
    top = presets.top(values)
    stages = {k: {**top, **_of_sources(values[k], about.get("sources", ()), sources)} if k in values else None
              for k in ("translator", "start", "predictor")}
    shown = {s.upper(): o.upper() for s, o in renamed.items()} | {"CT": target.upper()}
    if together:
        shown["+".join(about["sources"]).upper()] = "+".join(sources).upper()
    choose = tuple(f"{c}{'_'.join(sources)}" if c.endswith("_") else c for c in about.get("choose", ()))
    return Method(name=name or str(name_or_file), title=_replaced(about["title"], shown), row=about.get("row", ""),
                  table=_replaced(about["table"], shown), sources=sources, extra=about.get("extra"), choose=choose,
                  recipe=str(name_or_file), **stages)


def _of_sources(values: Mapping[str, Any], theirs: Sequence[str], ours: Sequence[str]) -> dict[str, Any]:
    """A training's options with the preset's sources exchanged for ours."""
    whole = ",".join(theirs)
    return {k: ",".join(ours) if k in ("sources", "raw") and v == whole and ours else v for k, v in values.items()}


def _replaced(text: str, words: Mapping[str, str]) -> str:
    pattern = "|".join(sorted(map(re.escape, words), key=len, reverse=True))
    return re.sub(rf"\b({pattern})(?=s?\b)", lambda found: words[found[1]], text)
