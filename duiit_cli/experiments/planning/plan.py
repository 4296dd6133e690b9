"""From methods and splits to tasks: what is to be trained, with which words of `duiit train`, and what it waits for.

Every task is one folder under --output. Trainings with the same options on the same split are one task: a translator
that two methods use is trained once, and a network trained on pure CT that several start from is that of PURE-CT.
"""
import json
from argparse import Action, Namespace
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from os import PathLike
from pathlib import Path
from typing import Any

from duiit.data import splits
from duiit.data.cross_modality_dataset import modality_folders, no_target
from duiit.data.readers.slice import Scan
from duiit.models import find_model_using_name
from duiit.options import TrainOptions, presets
from duiit.options.parsing import as_words, nearest, option_actions
from duiit.util.errors import UserError
from duiit.util.files import write_json
from duiit_cli.experiments.planning.methods import BASELINE, Method
from duiit_cli.experiments.planning.survey import Survey

NAME = "plan.json"
TRANSLATOR, START, CELL, CHOICE, QUALITY = "translator", "start", "cell", "choice", "quality"
PLACES = {TRANSLATOR: "translators", START: "starts", CELL: "cells", CHOICE: "cells"}
# By these options a method is what it is called; a scale's are for methods that say nothing of them.
DEFINING = {"lambda_pred", "guidance", "push", "push_ramp"}
# No page, no windows, no weights of single epochs: of hundreds of trainings nobody would look at them.
QUIET = {"no_html": True, "display_id": 0, "save_epoch_freq": 10**6, "keep": 1}


@dataclass
class Task:
    """id: the task's folder, under --output (a quality task works in its translator's). words: of `duiit train`.
    needs: tasks that must have ended well. about: what the report says of it."""
    id: str
    kind: str
    name: str
    split: int
    words: list[str]
    needs: list[str]
    about: dict[str, Any]

    def run_words(self, root: str | PathLike[str]) -> list[str]:
        """What names the task's run, its device, cache and plug-ins, for commands that work on a trained run."""
        own = "--device=", "--cache_dir=", "--plugins="
        return [*_run_of(root, self.id), *(w for w in self.words if w.startswith(own))]


def _run_of(root: str | PathLike[str], task_id: str) -> list[str]:
    """--checkpoints_dir and --name of a task's training."""
    parent, _, name = task_id.rpartition("/")
    return [f"--checkpoints_dir={Path(root) / parent}", f"--name={name}"]


def sources_of(opt: Namespace) -> list[str]:
    """The source folders of the experiment's data, as --sources or the data folder say. Raises UserError."""
    names = modality_folders(opt.dataroot)
    if opt.target not in names:
        raise no_target(opt, names)
    wanted = [s.strip() for s in opt.sources.split(",")] if opt.sources else [n for n in names if n != opt.target]
    missing = next((s for s in wanted if s not in names or s == opt.target), None)
    if missing:
        raise UserError(f"--sources {opt.sources}: {missing} is no source folder of {opt.dataroot}; there are "
                        f"{', '.join(names)}")
    return wanted


def check_split(opt: Namespace, survey: Survey) -> dict[str, int]:
    """{part: labelled units of the target} of the first split. Raises UserError where a split would leave a part
    without any: patients are drawn whether they have a label or not."""
    root, scans, labelled = survey.folder(opt.target), survey.scans(opt.target), survey.labelled(opt.target)
    if not labelled:
        raise UserError(f"{root}: no scan has a label; add a labels.csv (patient,label)")
    drawn = [_labelled_parts(opt, scans, labelled, split) for split in range(opt.splits)]
    for split, (train, val, test) in enumerate(drawn):
        if train < 2 or test < 1 or (opt.val_fraction and val < 1):
            raise UserError(f"{root}: {len(labelled)} labelled scans are too few: split {split} has {train} labelled "
                            f"{opt.split_by}s to train on, {val} to validate, {test} to test; label more, leave out "
                            "who has none, or change --val_fraction and --test_fraction")
    return dict(zip(splits.PARTS, drawn[0], strict=True))


def _labelled_parts(opt: Namespace, scans: Sequence[Scan], labelled: Sequence[Scan], split: int) -> tuple[int, ...]:
    """(train, val, test) numbers of labelled units on one split."""
    fractions = opt.val_fraction, opt.test_fraction
    if opt.split_by == "image":
        return splits.sizes(sum(len(s.files) for s in labelled), *fractions)
    parts = splits.draw({opt.target: [s.patient for s in scans]}, opt.seed + split, {opt.target: fractions})
    found = [parts[opt.target, patient] for patient in {s.patient for s in labelled}]
    return tuple(found.count(part) for part in splits.PARTS)


class Plan:
    """tasks: {id: Task}, each after those it needs."""

    def __init__(self, opt: Namespace, methods: Sequence[Method]) -> None:
        self.opt, self.methods, self.root = opt, methods, Path(opt.output).resolve()
        self.tasks: dict[str, Task] = {}
        self._alike: dict[str, Task] = {}                                   # by their words
        self._known: dict[tuple[str, str | None], dict[str, Action]] = {}   # options by model and data set
        for split in range(opt.splits):
            for method in sorted(methods, key=lambda m: bool(m.choose)):     # what is chosen from comes first
                self._add_method(method, split)
            for task in [t for t in self.tasks.values() if t.kind == TRANSLATOR and t.split == split]:
                self._add_quality(task)

    # -- tasks -------------------------------------------------------------------------------------------------

    def _add_method(self, method: Method, split: int) -> None:
        if method.choose:
            self._add_choice(method, split)
            return
        extra: list[str] = []
        needs: list[str] = []
        if method.translator:
            task = self._training(TRANSLATOR, method, method.translator, split)
            needs.append(task.id)
            extra = [str(self.root / task.id / "synthetic" / s) for s in method.sources]
        elif method.extra == "truth":
            extra = [str(Path(self.opt.dataroot).resolve() / "truth" / s) for s in method.sources]
        values = {**(method.predictor or {}), **({"extra": extra} if extra else {})}
        if method.start:
            task = self._training(START, method, method.start, split)
            needs.append(task.id)
            values["weights_P"] = str(self.root / task.id / f"{self.opt.epoch}_net_P.pth")
        self._training(CELL, method, values, split, needs)

    def _training(self, kind: str, method: Method, values: Mapping[str, Any], split: int,
                  needs: Iterable[str] = ()) -> Task:
        words = self._words(values, kind, split)
        key = json.dumps([split, *words])
        if kind != CELL and key in self._alike:
            return self._alike[key]
        task_id = f"{PLACES[kind]}/{method.name}/split_{split:02d}"
        about = {"title": method.title, "sources": list(method.sources), "recipe": method.recipe,
                 "epoch": self.opt.epoch}
        task = Task(task_id, kind, method.name, split, [*words, *_run_of(self.root, task_id)], list(needs), about)
        self._alike.setdefault(key, task)
        self.tasks[task_id] = task
        return task

    def _add_choice(self, method: Method, split: int) -> None:
        task_id = f"{PLACES[CHOICE]}/{method.name}/split_{split:02d}"
        needs = [f"{PLACES[CELL]}/{name}/split_{split:02d}" for name in method.choose]
        about = {"title": method.title, "sources": list(method.sources), "recipe": method.recipe,
                 "epoch": self.opt.epoch, "task": self.opt.task, "split_by": self.opt.split_by}
        self.tasks[task_id] = Task(task_id, CHOICE, method.name, split, [], needs, about)

    def _add_quality(self, translator: Task) -> None:
        judge = f"{PLACES[CELL]}/{BASELINE}/split_{translator.split:02d}"
        task_id = f"quality/{translator.name}/split_{translator.split:02d}"
        asked = {k: getattr(self.opt, k) for k in ("epoch", "examples", "fid_weights")}
        self.tasks[task_id] = Task(task_id, QUALITY, translator.name, translator.split, [], [translator.id, judge],
                                   {**translator.about, "judge": judge, "asked": asked})

    # -- words -------------------------------------------------------------------------------------------------

    def _words(self, values: Mapping[str, Any], kind: str, split: int) -> list[str]:
        """The method's options under those of --preset, of the command line, and of the split."""
        opt = self.opt
        table = "translator" if kind == TRANSLATOR else "predictor"
        whole = opt.preset_values
        scale = {**presets.top(whole), **whole.get(table, {}), **(whole.get("start", {}) if kind == START else {})}
        scale = {k: v for k, v in scale.items() if k != "model" and not (k in DEFINING and k in values)}
        model = values.get("model", "duiit" if kind == TRANSLATOR else "predictor")
        if "plugins" in values or any("plugins" in v for k, v in whole.items() if k in presets.TABLES):
            raise UserError(f"[{table}] names plugins: they are for the whole experiment; give them as --plugins")
        actions = self._actions(model, values.get("dataset_mode"))
        unknown = next((k for k in values if k not in actions), None)
        if unknown:
            raise UserError(f"[{table}] of a method: --model {model} has no option {unknown}"
                            f"{nearest(unknown, actions)}")
        merged = {**QUIET, "val_by": self.val_by, **values, **{k: v for k, v in scale.items() if k in actions},
                  **opt.training_options, "model": model, **self._place(split)}
        return ["train", *(word for k, v in merged.items() for word in as_words(actions[k], v))]

    @cached_property
    def val_by(self) -> str:
        """As --split_by; an experiment that was begun before there was a choice goes on by image."""
        before = read(self.root).values() if (self.root / NAME).is_file() else ()
        planned = {_validated_by(task) for task in before if task.words}
        return "image" if planned == {"image"} else self.opt.split_by

    def _place(self, split: int) -> dict[str, Any]:
        opt = self.opt
        place = {"dataroot": str(Path(opt.dataroot).resolve()), "target": opt.target, "split_seed": opt.seed + split,
                 "seed": opt.seed + split, "split_by": opt.split_by, "val_fraction": opt.val_fraction,
                 "test_fraction": opt.test_fraction, "source_test_fraction": opt.source_test_fraction,
                 "device": opt.device, "cache_dir": opt.cache_dir or str(self.root / "cache")}
        return {**place, **({"plugins": str(Path(opt.plugins).resolve())} if opt.plugins else {})}

    def _actions(self, model: str, dataset_mode: str | None) -> dict[str, Action]:
        key = (model, dataset_mode)
        if key not in self._known:
            words = ["--model", model, *(["--dataset_mode", dataset_mode] if dataset_mode else []),
                     *(["--plugins", self.opt.plugins] if self.opt.plugins else [])]
            self._known[key] = {a.dest: a for a in option_actions(TrainOptions().declare(words))}
        return self._known[key]

    # -- before anything is trained ----------------------------------------------------------------------------

    def check(self) -> None:
        """Parses every training's words, so that a wrong value is told before anything is trained."""
        self._check_preset()
        chosen = next((m.name for m in self.methods if m.choose), None)
        if chosen and not self.opt.val_fraction:
            raise UserError(f"method {chosen}: validation patients choose, and --val_fraction 0 leaves none")
        seen = set()
        for task in self.tasks.values():
            if task.words and (task.kind, task.name) not in seen:
                seen.add((task.kind, task.name))
                try:
                    # What a cluster's nodes have this machine need not have.
                    here = ["--device=cpu"] if self.opt.executor == "slurm" else []
                    opt = TrainOptions().parse([*task.words[1:], *here])
                    find_model_using_name(opt.model).check_options(opt)
                    self._check_epoch(opt, task)
                except UserError as error:
                    raise UserError(f"method {task.name}: {error}") from None
        self._refuse_another()

    def _check_epoch(self, opt: Namespace, task: Task) -> None:
        if self.opt.epoch == "best" and task.kind != TRANSLATOR and not (opt.val_freq and opt.val_fraction):
            raise UserError("--epoch best: nothing is validated, so no epoch is the best; see --val_fraction, and "
                            "val_freq in the preset")

    def _check_preset(self) -> None:
        """A scale's options are taken by the trainings that have them; what no model has is a mistake."""
        whole, names = self.opt.preset_values, TrainOptions().options_of_all()
        for values in (presets.top(whole), *(v for k, v in whole.items() if k in ("translator", "start", "predictor"))):
            unknown = next((k for k in values if k not in names), None)
            if unknown:
                raise UserError(f"--preset {self.opt.preset}: unknown option {unknown}{nearest(unknown, names)}")

    def _refuse_another(self) -> None:
        """UserError where --output holds an experiment with other words for one of these tasks."""
        path = self.root / NAME
        if not path.is_file():
            return
        before = read(self.root)
        for task in self.tasks.values():
            old = before.get(task.id)
            then = {*old.words, f"--val_by={_validated_by(old)}"} if old and old.words else set()
            changed = sorted(set(task.words) ^ then) if old else []
            changed = changed or (sorted(set(task.needs) ^ set(old.needs)) if old and task.kind == CHOICE else [])
            if old and old.about.get("epoch") != task.about.get("epoch"):
                changed = [f"--epoch={old.about.get('epoch')}", f"--epoch={self.opt.epoch}"]
            if changed:
                raise UserError(f"--output {self.opt.output}: {task.name} was begun there with other settings "
                                f"({' '.join(changed[:4])}); give the same ones, or another --output")

    def write(self) -> None:
        """plan.json: what the tasks' processes read. Tasks of earlier calls stay in it."""
        earlier = read(self.root) if (self.root / NAME).is_file() else {}
        write_json(self.root / NAME, [asdict(t) for t in {**earlier, **self.tasks}.values()])


def _validated_by(task: Task) -> str:
    """What the task's --val_by is: image where it was planned before there was one."""
    said = [w.partition("=")[2] for w in task.words if w.startswith("--val_by=")]
    return said[-1] if said else "image"


def read(root: str | PathLike[str]) -> dict[str, Task]:
    """{id: Task} of plan.json. Raises UserError where it is damaged."""
    path = Path(root) / NAME
    try:
        return {t["id"]: Task(**t) for t in json.loads(path.read_text(encoding="utf-8"))}
    except (OSError, ValueError, TypeError, KeyError):
        raise UserError(f"{path} is damaged or missing; remove it, and start the experiment again with the same "
                        "options") from None

