"""What `duiit experiment` does: plan, check at the door, run what is not done yet, report."""
import json
import logging
import signal
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from duiit_cli import __version__
from duiit_cli.experiments import estimate, execution, methods, plan
from options import ExperimentOptions
from util import run_lock
from util.errors import UserError
from util.files import write_json

log = logging.getLogger(__name__)
NAME = "experiment.json"
SETTINGS = ("target", "task", "split_by", "splits", "seed", "val_fraction", "test_fraction", "source_test_fraction",
            "preset", "epoch", "examples", "fid_weights")


def experiment(opt):
    """Returns the exit status: 0, or 1 where a part failed (the report says which)."""
    opt = _taken_up(opt)
    if opt.report_only:
        return _report(opt, 0)
    sources = plan.sources_of(opt)
    chosen, refused = methods.choose(opt.methods, sources, opt.dataroot, opt.target)
    for line in refused:
        log.warning("%s", line)
    parts = plan.check_split(opt)
    whole = plan.Plan(opt, chosen)
    whole.check()
    log.info("%d methods x %d splits; each split: %s", len(chosen), opt.splits,
             ", ".join(f"{n} {opt.split_by}s to {part}" for part, n in parts.items()))
    if opt.dry_run:
        return estimate.show(whole)
    return _run(opt, whole, chosen)


def _taken_up(opt):
    """Without --dataroot: the options that the experiment in --output was begun with, and this call's over them."""
    if opt.dataroot:
        return opt
    before = _before(Path(opt.output))
    if not before:
        raise UserError(f"--dataroot is missing, and {opt.output} holds no experiment to go on with" if not
                        opt.report_only else f"--output {opt.output}: holds no experiment to report on")
    return ExperimentOptions().parse([*before["words"], *opt.words])


def _before(root):
    """What experiment.json says of the calls before; {} where there were none. Raises UserError for a damaged one, and
    for a folder that holds something else."""
    path = root / NAME
    if not path.is_file():
        others = [p.name for p in root.iterdir() if p.name != "cache"] if root.is_dir() else []
        if others and not (root / plan.NAME).is_file():
            raise UserError(f"--output {root}: holds other files ({others[0]}) and no experiment; give another folder")
        return {}
    try:
        before = json.loads(path.read_text(encoding="utf-8"))
        return {k: before[k] for k in ("words", "created", "settings", "methods")}
    except (ValueError, KeyError, TypeError):
        raise UserError(f"{path} is damaged: remove it, and start again with the options that the experiment was begun "
                        "with; what is finished is kept") from None


def _run(opt, whole, chosen):
    root = whole.root
    _before(root)
    root.mkdir(parents=True, exist_ok=True)
    with run_lock.hold(root):
        whole.write()
        _write_settings(opt, chosen, root)
        todo = {i: t for i, t in whole.tasks.items() if not execution.is_done(root, t)}
        log.info("%d of %d parts are done already", len(whole.tasks) - len(todo), len(whole.tasks))
        try:
            with _sigterm_is_ctrl_c():
                failed = execution.execute(root, todo, _executor(opt, root), opt.jobs) if todo else {}
        except KeyboardInterrupt:
            log.warning("stopped; everything is saved. Go on with: duiit experiment --output %s", opt.output)
            raise
    return _report(opt, 1 if failed else 0)


@contextmanager
def _sigterm_is_ctrl_c():
    """A batch system that ends this process is to find everything saved and no job left behind."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _executor(opt, root):
    if opt.executor == "slurm":
        return execution.ClusterJobs(root, "slurm", opt.slurm)
    import torch

    gpus = torch.cuda.device_count() if opt.device in ("auto", "cuda") else 0
    return execution.LocalProcesses(opt.jobs, gpus)


def _write_settings(opt, chosen, root):
    """experiment.json: what the report says of the comparison, and the words to go on with it. Methods and splits of
    earlier calls stay in it."""
    before = _before(root)
    settings = {"dataroot": str(Path(opt.dataroot).resolve()), **{k: getattr(opt, k) for k in SETTINGS}}
    settings["label_unit"] = _label_unit(opt)
    settings["splits"] = max(opt.splits, before.get("settings", {}).get("splits", 0))
    listed = {m["name"]: m for m in before.get("methods", [])}
    listed |= {m.name: {"name": m.name, "title": m.title, "row": m.row, "table": m.table, "sources": list(m.sources),
                        "recipe": m.recipe, "translator": m.name if m.translator else None} for m in chosen}
    translators = [{k: m[k] for k in ("name", "title", "sources")} for m in listed.values() if m["translator"]]
    created = before.get("created", datetime.now(UTC).isoformat(timespec="seconds"))
    write_json(root / NAME, {"duiit_version": __version__, "created": created, "words": [*opt.words, *_absolute(opt)],
                             "settings": settings, "methods": list(listed.values()), "translators": translators})


def _absolute(opt):
    """Words that name the call's files and folders as they are found from anywhere."""
    methods = opt.methods and ",".join(str(Path(m).resolve()) if m.endswith(".toml") else m
                                       for m in map(str.strip, opt.methods.split(",")))
    paths = {k: getattr(opt, k) for k in ("dataroot", "plugins", "cache_dir", "fid_weights", "published")}
    paths["preset"] = opt.preset if opt.preset and opt.preset.endswith(".toml") else None
    return [f"--{k}={Path(v).resolve()}" for k, v in paths.items() if v] + ([f"--methods={methods}"] if methods else [])


def _label_unit(opt):
    """`years` where the labels are ages, as far as their column's name says; else None."""
    from data.labels import read_labels

    labels = read_labels(Path(opt.dataroot) / opt.target, opt.label_column, opt.id_column, opt.task)
    is_age = labels.is_age if labels else opt.task == "regression"      # without a table: PatientAge of the headers
    return "years" if is_age else None


def _report(opt, code):
    from duiit_cli.experiments.report import write_report

    for line in write_report(Path(opt.output), opt.published):
        log.info("%s", line)
    log.info("the report is %s", Path(opt.output) / "report.html")
    return code
