"""From methods and splits to tasks: what is to be trained, with which words of `duiit train`, and what it waits for.

Every task is one folder under --output. Trainings with the same options on the same split are one task: a translator
that two methods use is trained once, and a network trained on pure CT that several start from is that of PURE-CT.
"""
import json
from dataclasses import asdict, dataclass
from pathlib import Path

from data import splits
from data.cross_modality_dataset import modality_folders
from data.modality_dataset import loader_of
from duiit_cli.experiments.methods import BASELINE
from options import TrainOptions, presets
from options.parsing import is_flag, nearest, option_actions
from util.errors import UserError
from util.files import write_json

NAME = "plan.json"
TRANSLATOR, START, CELL, QUALITY = "translator", "start", "cell", "quality"
PLACES = {TRANSLATOR: "translators", START: "starts", CELL: "cells"}
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
    words: list
    needs: list
    about: dict

    @property
    def run(self):
        """(--checkpoints_dir, --name) relative to --output."""
        parent, _, name = self.id.rpartition("/")
        return parent, name


def sources_of(opt):
    """The source folders of the experiment's data, as --sources or the data folder say. Raises UserError."""
    names = modality_folders(opt.dataroot)
    if opt.target not in names:
        raise UserError(f"--target {opt.target}: {opt.dataroot} has no such folder; it holds "
                        f"{', '.join(names) or 'none'}")
    wanted = [s.strip() for s in opt.sources.split(",")] if opt.sources else [n for n in names if n != opt.target]
    missing = next((s for s in wanted if s not in names or s == opt.target), None)
    if missing:
        raise UserError(f"--sources {opt.sources}: {missing} is no source folder of {opt.dataroot}; there are "
                        f"{', '.join(names)}")
    return wanted


def check_split(opt):
    """{part: units of the target}, for the messages. Raises UserError where the splits cannot be drawn."""
    scans = loader_of(opt.target).find_scans(Path(opt.dataroot) / opt.target, opt)
    labelled = [s for s in scans if s.label is not None or any(v is not None for v in s.file_labels.values())]
    if not labelled:
        raise UserError(f"{Path(opt.dataroot) / opt.target}: no scan has a label; add a labels.csv (patient,label)")
    units = {s.patient for s in labelled} if opt.split_by == "patient" else [f for s in labelled for f in s.files]
    train, val, test = splits.sizes(len(units), opt.val_fraction, opt.test_fraction)
    if train < 2 or test < 1 or (opt.val_fraction and val < 1):
        raise UserError(f"{Path(opt.dataroot) / opt.target}: {len(units)} labelled {opt.split_by}s are too few for a "
                        f"split by --val_fraction {opt.val_fraction} and --test_fraction {opt.test_fraction}: "
                        f"{train} to train on, {val} to validate, {test} to test; label more")
    return dict(zip(splits.PARTS, (train, val, test), strict=True))


class Plan:
    """tasks: {id: Task}, each after those it needs."""

    def __init__(self, opt, methods):
        self.opt, self.methods, self.root = opt, methods, Path(opt.output).resolve()
        self.tasks, self._alike, self._known = {}, {}, {}       # {id: Task}, {words: Task}, {model: its options}
        for split in range(opt.splits):
            for method in methods:
                self._add_method(method, split)
            for task in [t for t in self.tasks.values() if t.kind == TRANSLATOR and t.split == split]:
                self._add_quality(task)

    # -- tasks -------------------------------------------------------------------------------------------------

    def _add_method(self, method, split):
        extra, needs = [], []
        if method.translator:
            task = self._training(TRANSLATOR, method, method.translator, split)
            needs.append(task.id)
            extra = [str(self.root / task.id / "synthetic" / s) for s in method.sources]
        elif method.extra == "truth":
            extra = [str(Path(self.opt.dataroot).resolve() / "truth" / s) for s in method.sources]
        values = {**method.predictor, **({"extra": extra} if extra else {})}
        if method.start:
            task = self._training(START, method, method.start, split)
            needs.append(task.id)
            values["weights_P"] = str(self.root / task.id / f"{self.opt.epoch}_net_P.pth")
        self._training(CELL, method, values, split, needs)

    def _training(self, kind, method, values, split, needs=()):
        words = self._words(values, kind, split)
        key = json.dumps([split, *words])
        if kind != CELL and key in self._alike:
            return self._alike[key]
        task_id = f"{PLACES[kind]}/{method.name}/split_{split:02d}"
        parent, _, name = task_id.rpartition("/")
        about = {"title": method.title, "sources": list(method.sources), "recipe": method.recipe}
        task = Task(task_id, kind, method.name, split,
                    [*words, f"--checkpoints_dir={self.root / parent}", f"--name={name}"], list(needs), about)
        self._alike.setdefault(key, task)
        self.tasks[task_id] = task
        return task

    def _add_quality(self, translator):
        judge = f"{PLACES[CELL]}/{BASELINE}/split_{translator.split:02d}"
        task_id = f"quality/{translator.name}/split_{translator.split:02d}"
        self.tasks[task_id] = Task(task_id, QUALITY, translator.name, translator.split, [], [translator.id, judge],
                                   {**translator.about, "judge": judge})

    # -- words -------------------------------------------------------------------------------------------------

    def _words(self, values, kind, split):
        """The method's options under those of --preset, of the command line, and of the split."""
        opt = self.opt
        table = "translator" if kind == TRANSLATOR else "predictor"
        whole = opt.preset_values
        scale = {**presets.top(whole), **whole.get(table, {}), **(whole.get("start", {}) if kind == START else {})}
        scale = {k: v for k, v in scale.items() if k != "model"}
        model = values.get("model", "duiit" if kind == TRANSLATOR else "predictor")
        actions = self._actions(model, values.get("dataset_mode"))
        unknown = next((k for k in values if k not in actions), None)
        if unknown:
            raise UserError(f"[{table}] of a method: --model {model} has no option {unknown}"
                            f"{nearest(unknown, actions)}")
        merged = {**QUIET, **values, **{k: v for k, v in scale.items() if k in actions}, **opt.given,
                  "model": model, **self._place(split)}
        return ["train", *(word for k, v in merged.items() for word in _as_words(actions[k], v))]

    def _place(self, split):
        opt = self.opt
        place = {"dataroot": str(Path(opt.dataroot).resolve()), "target": opt.target, "split_seed": opt.seed + split,
                 "seed": opt.seed + split, "split_by": opt.split_by, "val_fraction": opt.val_fraction,
                 "test_fraction": opt.test_fraction, "source_test_fraction": opt.source_test_fraction,
                 "device": opt.device, "cache_dir": opt.cache_dir or str(self.root / "cache")}
        return {**place, **({"plugins": str(Path(opt.plugins).resolve())} if opt.plugins else {})}

    def _actions(self, model, dataset_mode):
        key = (model, dataset_mode)
        if key not in self._known:
            words = ["--model", model, *(["--dataset_mode", dataset_mode] if dataset_mode else []),
                     *(["--plugins", self.opt.plugins] if self.opt.plugins else [])]
            self._known[key] = {a.dest: a for a in option_actions(TrainOptions().declare(words))}
        return self._known[key]

    # -- at the door -------------------------------------------------------------------------------------------

    def check(self):
        """Parses every training's words, so that a wrong value is told before anything is trained."""
        self._check_preset()
        seen = set()
        for task in self.tasks.values():
            if task.words and (task.kind, task.name) not in seen:
                seen.add((task.kind, task.name))
                try:
                    # What a cluster's nodes have this machine need not have.
                    here = ["--device=cpu"] if self.opt.executor == "slurm" else []
                    TrainOptions().parse([*task.words[1:], *here])
                except UserError as error:
                    raise UserError(f"method {task.name}: {error}") from None
        self._refuse_another()

    def _check_preset(self):
        """A scale's options are taken by the trainings that have them; what no model has is a mistake."""
        whole, names = self.opt.preset_values, TrainOptions().options_of_all()
        for values in (presets.top(whole), *(v for k, v in whole.items() if k in ("translator", "start", "predictor"))):
            unknown = next((k for k in values if k not in names), None)
            if unknown:
                raise UserError(f"--preset {self.opt.preset}: unknown option {unknown}{nearest(unknown, names)}")

    def _refuse_another(self):
        """UserError where --output holds an experiment with other words for one of these tasks."""
        path = self.root / NAME
        if not path.is_file():
            return
        before = read(self.root)
        for task in self.tasks.values():
            old = before.get(task.id)
            changed = sorted(set(task.words) ^ set(old.words)) if old else []
            if changed:
                raise UserError(f"--output {self.opt.output}: {task.name} was begun there with other settings "
                                f"({' '.join(changed[:4])}); give the same ones, or another --output")

    def write(self):
        """plan.json: what the tasks' processes read. Tasks of earlier calls stay in it."""
        earlier = read(self.root) if (self.root / NAME).is_file() else {}
        write_json(self.root / NAME, [asdict(t) for t in {**earlier, **self.tasks}.values()])


def read(root):
    """{id: Task} of plan.json. Raises UserError where it is damaged."""
    path = Path(root) / NAME
    try:
        return {t["id"]: Task(**t) for t in json.loads(path.read_text(encoding="utf-8"))}
    except (OSError, ValueError, TypeError, KeyError):
        raise UserError(f"{path} is damaged or missing; remove it, and start the experiment again with the same "
                        "options") from None


def _as_words(action, value):
    if is_flag(action):
        return [action.option_strings[0]] if value else []
    values = value if isinstance(value, list) else [value]
    return [f"{action.option_strings[0]}={v}" for v in values if v is not None]
