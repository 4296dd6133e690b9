"""What `duiit experiment` does: plan, check before anything is trained, run what is not done yet, report."""
import json
import logging
import os
import signal
from argparse import SUPPRESS, Namespace
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from duiit.models.networks import feature_networks
from duiit.options import ExperimentOptions, presets
from duiit.options.parsing import OptionParser, as_words, option_actions
from duiit.util import provenance, run_lock, trust
from duiit.util.errors import UserError
from duiit.util.files import write_json
from duiit.util.version import __version__
from duiit_cli.experiments.planning import methods, plan
from duiit_cli.experiments.planning.survey import Survey
from duiit_cli.experiments.reporting.published import LEFT_OUT, read_published
from duiit_cli.experiments.running import cluster, data_description, estimate, execution

log = logging.getLogger(__name__)
NAME = "experiment.json"
SETTINGS = ("target", "task", "split_by", "splits", "seed", "val_fraction", "test_fraction", "source_test_fraction",
            "preset", "epoch", "examples", "fid_weights")
# What a call says of itself, not of the experiment: not kept for the next.
OF_THE_CALL = {"output", "dry_run", "report_only", "published", "verbose"}


def experiment(opt: Namespace) -> int:
    """Returns the exit status: 0, or 1 where a part failed (the report says which)."""
    root = Path(opt.output).resolve()
    before = _before(root)
    if opt.report_only and not before:
        raise UserError(f"--output {opt.output}: holds no experiment to report on")
    if opt.report_only:
        return _report(opt, 0)
    words, opt = opt.words, _taken_up(opt, before)
    opt.words = words
    sources = plan.sources_of(opt)
    _judge(opt, root, _chosen(opt, sources)[0])
    survey = Survey(opt)
    chosen, refused = _chosen(opt, sources, [s for s in sources if survey.labelled(s)])
    for line in refused:
        log.warning("%s", line)
    parts = plan.check_split(opt, survey)
    whole = plan.Plan(opt, chosen)
    whole.check()
    log.info("%d methods x %d splits; the first split: %s", len(chosen), opt.splits,
             ", ".join(f"{n} labelled {opt.split_by}s to {part}" for part, n in parts.items()))
    if opt.dry_run:
        return estimate.show(whole, survey)
    return _run(opt, whole, chosen, before, survey)


def _before(root: Path) -> dict[str, Any]:
    """What experiment.json says of the calls before; {} where there were none. Raises UserError for a damaged one, and
    for a folder that holds something else."""
    path = root / NAME
    if root.is_file():
        raise UserError(f"--output {root}: is a file; give a folder")
    if not path.is_file():
        others = [p.name for p in root.iterdir() if p.name != "cache"] if root.is_dir() else []
        if others and not (root / plan.NAME).is_file():
            raise UserError(f"--output {root}: holds other files ({others[0]}) and no experiment; give another folder")
        return {}
    try:
        before = json.loads(path.read_text(encoding="utf-8"))
        return {**{k: before[k] for k in ("given", "created", "settings", "methods")},
                "version": before.get("duiit_version"), "image_sizes": before.get("image_sizes")}
    except (ValueError, KeyError, TypeError):
        raise UserError(f"{path} is damaged: remove it, and start again with the options that the experiment was begun "
                        "with; what is finished is kept") from None


def _taken_up(opt: Namespace, before: Mapping[str, Any]) -> Namespace:
    """The options of this call over those of the calls before: their methods and splits stay in the comparison."""
    if not before and not opt.dataroot:
        raise UserError(f"--dataroot is missing, and {opt.output} holds no experiment to go on with")
    if not before:
        return opt
    given = {**before["given"], **_lasting(opt)}
    if given.get("plugins") and "plugins" not in opt.command_line:
        trust.require(given["plugins"], f"--output {opt.output}")
    given["splits"] = max(opt.command_line.get("splits", 0), before["settings"]["splits"])
    if "methods" in opt.command_line:
        earlier = before["given"].get("methods") or ",".join(m["name"] for m in before["methods"])
        given["methods"] = ",".join(dict.fromkeys([*earlier.split(","), *given["methods"].split(",")]))
    call = {k: v for k, v in opt.command_line.items() if k in OF_THE_CALL}
    actions = {a.dest: a for a in option_actions(ExperimentOptions().initialize(OptionParser()))}
    return ExperimentOptions().parse([w for k, v in {**given, **call}.items() for w in as_words(actions[k], v)])


def _lasting(opt: Namespace) -> dict[str, Any]:
    """{option: value} that the command line says of the experiment, its files and folders as they are found from
    anywhere."""
    given = {k: v for k, v in opt.command_line.items() if k not in OF_THE_CALL}
    for name in ("dataroot", "plugins", "cache_dir", "fid_weights"):
        if given.get(name):
            given[name] = str(Path(given[name]).resolve())
    if str(given.get("preset", "")).endswith(".toml"):
        given["preset"] = str(Path(given["preset"]).resolve())
    if given.get("methods"):
        words = [w.strip() for w in given["methods"].split(",")]
        given["methods"] = ",".join(str(Path(w).resolve()) if w.endswith(".toml") else w for w in words)
    return given


def _chosen(opt: Namespace, sources: Sequence[str],
            labelled: Sequence[str] | None = None) -> tuple[list[methods.Method], list[str]]:
    """(methods to compare, why others are left out). labelled: the sources that have labels (default: all)."""
    chosen, refused = methods.choose(opt.methods, sources, opt.dataroot, opt.target, labelled)
    if not opt.methods and not opt.val_fraction:        # nobody is there to choose
        chosen = [m for m in chosen if not m.choose]
    return chosen, refused


def _judge(opt: Namespace, root: Path, wanted: Sequence[methods.Method]) -> None:
    """Raises UserError for what is wrong whatever the data are, before any of them is looked at. wanted: the methods
    as if every image had a label."""
    _check_files(opt, root, wanted)
    if opt.executor == "slurm":
        cluster.ClusterJobs(root, "slurm", opt.slurm)
    plan.Plan(Namespace(**{**vars(opt), "splits": 1}), wanted).check()


def _check_files(opt: Namespace, root: Path, chosen: Sequence[methods.Method]) -> None:
    """What would be missed only after hours, or spoil the data. Raises UserError."""
    dataroot = Path(opt.dataroot).resolve()
    if root == dataroot or dataroot in root.parents:
        raise UserError(f"--output {opt.output}: is in --dataroot, where every folder is taken for a modality; give a "
                        "folder elsewhere")
    if opt.fid_weights:
        feature_networks.check_weights(opt.fid_weights)
    if opt.published and opt.published != LEFT_OUT:
        read_published(opt.published, [*presets.names(), *(m.name for m in chosen)])


def _run(opt: Namespace, whole: plan.Plan, chosen: Sequence[methods.Method], before: Mapping[str, Any],
         survey: Survey) -> int:
    root = whole.root
    try:
        root.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"--output {opt.output}: cannot be made ({error.strerror}); give another folder") from None
    with run_lock.hold(root, "works on this experiment; wait for it, stop it, or give another --output"):
        executor = _executor(opt, root)
        running = executor.running(root, whole.tasks.values())      # first: what ends from here on is not missed
        todo = _to_do(whole)
        begun = before.get("version") or __version__
        if begun != __version__ and 0 < len(todo) < len(whole.tasks):
            log.warning("--output %s: was begun by version %s, and what is missing is made by version %s: figures of "
                        "both in one comparison may differ for that alone", opt.output, begun, __version__)
        whole.write()
        _write_settings(opt, chosen, root, survey)
        log.info("%d of %d parts are done already", len(whole.tasks) - len(todo), len(whole.tasks))
        provenance.note(root, "experiment", opt.words, parts_to_do=len(todo))
        execution.clear_damaged(root, {i: t for i, t in todo.items() if i not in running})
        try:
            with _signals_are_ctrl_c():
                failed = execution.execute(root, todo, executor, opt.jobs, running) if todo else {}
        except KeyboardInterrupt:
            log.warning("stopped; everything is saved. Go on with: duiit experiment --output %s", opt.output)
            raise
    return _report(opt, 1 if failed else 0)


def _to_do(whole: plan.Plan) -> dict[str, plan.Task]:
    """Tasks that are not done. A translator that is made anew is judged anew, and of cells made anew one is chosen
    anew."""
    todo = {i: t for i, t in whole.tasks.items() if not execution.is_done(whole.root, t)}
    return todo | {i: t for i, t in whole.tasks.items() if (t.kind == plan.QUALITY and t.needs[0] in todo)
                   or (t.kind == plan.CHOICE and any(need in todo for need in t.needs))}


@contextmanager
def _signals_are_ctrl_c() -> Iterator[None]:
    """A batch system that ends this process, or a terminal that closes, is to find everything saved and no job left."""
    wanted = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
    before = {s: signal.signal(s, signal.default_int_handler) for s in wanted}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _executor(opt: Namespace, root: Path) -> execution.Executor:
    if opt.executor == "slurm":
        return cluster.ClusterJobs(root, "slurm", opt.slurm)
    import torch

    count = torch.cuda.device_count() if opt.device in ("auto", "cuda") else 0
    named = [g for g in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if g.strip()]
    return execution.LocalProcesses(opt.jobs, named or [str(n) for n in range(count)])


def _write_settings(opt: Namespace, chosen: Sequence[methods.Method], root: Path, survey: Survey) -> None:
    """experiment.json: what the report says of the comparison, and what was given, to go on with it."""
    before = _before(root)
    settings = {"dataroot": str(Path(opt.dataroot).resolve()), **{k: getattr(opt, k) for k in SETTINGS},
                "label_unit": _label_unit(opt)}
    listed = [{"name": m.name, "title": m.title, "row": m.row, "table": m.table, "sources": list(m.sources),
               "role": m.role, "recipe": m.recipe, "translator": m.name if m.translator else None} for m in chosen]
    translators = [{k: m[k] for k in ("name", "title", "sources", "role")} for m in listed if m["translator"]]
    created = before.get("created", datetime.now(UTC).isoformat(timespec="seconds"))
    write_json(root / NAME, {"duiit_version": __version__, "created": created, "given": _lasting(opt),
                             "settings": settings, "options": _options(opt), "methods": listed,
                             "translators": translators, "presets": _texts(opt, chosen),
                             "image_sizes": before.get("image_sizes") or data_description.image_sizes(
                                 {m: survey.scans(m) for m in (opt.target, *plan.sources_of(opt))})})


def _options(opt: Namespace) -> dict[str, Any]:
    """{option: value} of the experiment as they came together, for the report."""
    return {a.dest: getattr(opt, a.dest) for a in option_actions(ExperimentOptions().initialize(OptionParser()))
            if a.dest not in OF_THE_CALL and a.help != SUPPRESS}


def _texts(opt: Namespace, chosen: Sequence[methods.Method]) -> dict[str, str]:
    """{preset as it was named: its text} of the methods and of --preset: by the next report a file may be another."""
    names = dict.fromkeys([*([opt.preset] if opt.preset else []), *(m.recipe for m in chosen)])
    return {name: presets.path_of(name).read_text(encoding="utf-8") for name in names}


def _label_unit(opt: Namespace) -> str | None:
    """`years` where the labels are ages, as far as their column's name says; else None."""
    from duiit.data.readers.labels import read_labels

    labels = read_labels(Path(opt.dataroot) / opt.target, opt.label_column, opt.id_column, opt.task)
    is_age = labels.is_age if labels else opt.task == "regression"      # without a table: PatientAge of the headers
    return "years" if is_age else None


def _report(opt: Namespace, code: int) -> int:
    from duiit_cli.experiments.reporting.report import write_report

    for line in write_report(Path(opt.output), opt.published):
        log.info("%s", line)
    log.info("the report is %s", Path(opt.output) / "report.html")
    return code
