"""The training loop: the same for every model, from the first batch to the last saved state.

A run's folder holds everything needed to go on with it. `latest_state.pth` holds weights, optimizers, schedules, image
pools, random generators and the place in the epoch. The order of the images and their augmentation follow from
(seed, epoch) alone, so a run that was stopped and continued ends with the same weights. Of several processes that train
together each runs this loop, in step with the others; the first one writes.
"""
import logging
import math
import time
from argparse import Namespace
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Self

from duiit.data import CustomDatasetDataLoader, create_dataset, splits
from duiit.data.preparing import augmentation
from duiit.models import create_model, find_model_using_name
from duiit.models.base_model import BaseModel
from duiit.options import TrainOptions, run_file
from duiit.util import checkpoint, distributed, provenance, run_status
from duiit.util.errors import UserError
from duiit.util.files import write_text
from duiit.util.logs import log_to_file, setup_logging
from duiit.util.progress import TrainProgress
from duiit.util.states import StateFiles
from duiit.util.version import __version__
from duiit.util.visualizer import Visualizer
from duiit_cli.inference import calibration, validated
from duiit_cli.training import outlook
from duiit_cli.training.guard import NumberGuard
from duiit_cli.training.resume import (
    is_complete,
    note_threads,
    refuse_other_data,
    refuse_other_draws,
    starting_point,
)
from duiit_cli.training.run_folder import claimed
from duiit_cli.training.stopping import Stop, StoppedAtOnce, interruptible, stop_signals

log = logging.getLogger(__name__)
MADE_OF_OTHERS = {"gpu_ids"}        # what --device comes to


def train(opt: Namespace) -> int:
    """Trains the run that `opt` describes. Returns the exit status: 0, or 128 + signal where one stopped it."""
    folder = Path(opt.checkpoints_dir) / opt.name
    try:
        with distributed.joined(opt), stop_signals() as stop, claimed(folder):
            if not distributed.is_main():
                setup_logging(quiet=True)
            return _train(opt, folder, stop)
    except StoppedAtOnce as stopped:
        log.warning("stopped before the first step")
        return int(str(stopped.code))


def _train(opt: Namespace, folder: Path, stop: Stop) -> int:
    states = StateFiles(folder, opt.keep)
    path, opt.continue_train = distributed.from_main(lambda: starting_point(opt, folder, states))
    state = checkpoint.load(path) if path else None
    at = opt.checkpoints_dir, opt.name
    recorded = (run_file.read(*at), run_file.read_facts(*at)) if path else None
    if state and recorded:
        if is_complete(opt, folder, state):
            return 0
        note_threads(opt, recorded[0])
    distributed.from_main(lambda: _judge(opt))      # before the data, which may take long
    log.info("reading the data")
    checkpoint.seed_everything(opt.seed)
    dataset = distributed.first_here(lambda: create_dataset(opt))
    if state and recorded:
        refuse_other_data(opt, *recorded, len(dataset), state["images"])
        refuse_other_draws(opt, state)
    checkpoint.seed_everything(opt.seed)        # the networks start the same, whatever reading the data drew
    log.info("building the networks")
    model = create_model(opt)
    model.restored = state is not None
    model.setup(opt)
    checkpoint.seed_everything(opt.seed + distributed.rank())   # from here on each process draws for itself
    if not distributed.is_main():
        return _run(opt, folder, dataset, model, states, state, stop)
    run_file.write(folder, opt, __version__)
    write_text(folder / "train_opt.txt", _readable(opt))
    provenance.note(folder, "train", opt.words, opt.device, resumed_at_step=state["steps"] if state else None,
                    processes=distributed.ranks(), split_sha256=provenance.digest_of(folder / splits.NAME),
                    images=len(dataset))
    handler = log_to_file(folder / "train.log")
    try:
        with run_status.RunStatus(folder, None if opt.no_html else folder / "web") as status:
            code = _run(opt, folder, dataset, model, states, state, stop, status)
            status.ended(run_status.STOPPED if code else run_status.FINISHED)
            return code
    finally:
        logging.getLogger().removeHandler(handler)
        handler.close()


def _judge(opt: Namespace) -> None:
    kind = find_model_using_name(opt.model)
    kind.check_options(opt)
    kind.check_files(opt)


def _run(opt: Namespace, folder: Path, dataset: CustomDatasetDataLoader, model: BaseModel, states: StateFiles,
         state: Mapping[str, Any] | None, stop: Stop, status: run_status.RunStatus | None = None) -> int:
    return TrainingRun(opt, folder, dataset, model, states, stop, status).go(state)


def _readable(opt: Namespace) -> str:
    """Every option and fact, a line each; what is not the model's default has that beside it, as in the toolkit."""
    defaults = TrainOptions().defaults_of(vars(opt))
    values = {k: v for k, v in {**vars(opt), **opt.facts.said()}.items() if k not in ("facts", *run_file.OF_THE_CALL)}
    width = max(map(len, values))

    def told(name: str) -> str:
        same = name not in defaults or name in MADE_OF_OTHERS or values[name] == defaults[name]
        return "" if same else f"    [default: {defaults[name]}]"

    return "".join(f"{k:>{width}}: {v}{told(k)}\n" for k, v in sorted(values.items()))


def balance(losses: Mapping[str, float]) -> dict[str, float]:
    """{"balance": the discriminators' mean loss by the generators' mean adversarial loss}: with LSGAN 1 where neither
    wins, and towards 0 as the discriminators do. Nothing where no D_<x> and G_<x> go together."""
    pairs = [(losses[k], losses[f"G_{k[2:]}"]) for k in losses if k.startswith("D_") and f"G_{k[2:]}" in losses]
    discriminators, generators = sum(d for d, _ in pairs), sum(g for _, g in pairs)
    return {"balance": discriminators / generators} if generators else {}


class _Unwatched:
    """Stands for progress and logs in the processes that show and write nothing."""

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *args, **kwargs: None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        return None


class TrainingRun:
    """Where a run stands (epoch, batches of it done, steps in all) and how it goes on."""

    def __init__(self, opt: Namespace, folder: Path, dataset: CustomDatasetDataLoader, model: BaseModel,
                 states: StateFiles, stop: Stop, status: run_status.RunStatus | None = None) -> None:
        self.opt, self.folder, self.dataset, self.model = opt, folder, dataset, model
        self.states, self.stop, self.status = states, stop, status
        self.epoch, self.batches_done, self.steps = opt.epoch_count, 0, 0
        self.best, self.stale = math.inf, 0         # the smallest validation error, and validations since
        self.validations = validated.Record(folder, opt)
        self.last_epoch = opt.n_epochs + opt.n_epochs_decay
        self.guard = NumberGuard(opt, model, folder)
        held_out = getattr(dataset.dataset, "held_out", None)
        self.validation = held_out("val") if opt.val_freq and held_out else None
        for option, asked in ((f"--early_stop {opt.early_stop}", opt.early_stop),
                              ("--lr_policy plateau", opt.lr_policy == "plateau")):
            if asked and not self._will_validate():
                raise UserError(f"{option}: nothing is validated; it needs --val_freq above 0, labelled images for "
                                "validation (--val_fraction), and a model that predicts their label")

    # -- the run -----------------------------------------------------------------------------------------------

    def go(self, state: Mapping[str, Any] | None = None) -> int:
        """Trains to the end, from the training state `state` if there is one. Returns the exit status."""
        main = distributed.is_main()
        self.visualizer = Visualizer(self.opt) if main else _Unwatched()
        if state:
            self._take_up(state)
        if main and self._will_validate():
            self.validations.begin(self.epoch if state else None)
        if not state:
            self.save()                         # from here on the run can be gone on with, and the disk has room
        images = self.dataset.batches * self.opt.batch_size
        self.first_step, self.announced = self.steps + 1, False
        log.info("%d images, %d steps an epoch, on %s%s%s, in %s", len(self.dataset),
                 math.ceil(self.dataset.batches / self.opt.accumulate), self.opt.device,
                 f" and {distributed.ranks() - 1} more" if distributed.ranks() > 1 else "",
                 f" with {self.opt.threads} threads (--threads)" if self.opt.device == "cpu" else "",
                 self.model.acceleration)
        with (TrainProgress(self.last_epoch, images, first_epoch=self.epoch) if main else _Unwatched()) as progress:
            try:
                while self.epoch <= self.last_epoch and not self.finished():
                    self._one_epoch(progress)
            except StoppedAtOnce:               # in a step whose start is on the disk: what it changed is not kept
                return self._stopped()
        return self._end()

    def _will_validate(self) -> bool:
        if self.validation is None or not self.model.validates:
            return False
        rows = getattr(getattr(self.validation, "dataset", None), "rows", None)
        return rows is None or any(row.label is not None for row in rows)       # a plug-in's are not known

    def _batches_left(self) -> int:
        left = (self.last_epoch - self.epoch + 1) * self.dataset.batches - self.batches_done
        return min(left, (self.opt.max_steps - self.steps) * self.opt.accumulate) if self.opt.max_steps else left

    def finished(self) -> bool:
        return bool(self.stop) or 0 < self.opt.max_steps <= self.steps or 0 < self.opt.early_stop <= self.stale

    def _one_epoch(self, progress: TrainProgress | _Unwatched) -> None:
        progress.start_epoch(self.epoch)
        progress.advance(self.batches_done * self.opt.batch_size)
        self.visualizer.reset()
        self.dataset.set_epoch(self.epoch, self.batches_done)
        self.model.train()
        began = time.monotonic()
        for batch in self.dataset:
            fetched = time.monotonic()
            if not self._step(batch):
                progress.advance(self.opt.batch_size)
                began = time.monotonic()
                continue
            overdue = self._agree()
            self._watch(progress, time.monotonic() - fetched, fetched - began)
            if self.batches_done >= self.dataset.batches:
                self._end_epoch()               # before saving: a state is never between an epoch and its validation
            self._save_if_due(overdue)
            if self.finished():
                break
            began = time.monotonic()

    def _step(self, batch: dict[str, Any]) -> bool:
        """Learns from a batch. True where that completed a step: with --accumulate it takes several batches."""
        model, begins = self.model, self.batches_done % self.opt.accumulate == 0
        if begins and self.steps + 1 == self.first_step and distributed.ranks() == 1:
            self.announced = outlook.announce(self.opt, batch, self._batches_left())
            log.info("first step")
        if begins:
            self.guard.before_step()
        model.share_done = (self.epoch - 1 + self.batches_done / self.dataset.batches) / self.last_epoch
        model.measuring = (self.steps + 1) % self.opt.print_freq == 0
        done = self.batches_done + 1
        completes = done % self.opt.accumulate == 0 or done == self.dataset.batches
        at_once = interruptible() if self.stop.at_once and self.opt.device == "cpu" else nullcontext()
        with at_once, model.acceleration.step(completes):
            model.set_input(batch)
            model.optimize_parameters()
        self.stop.at_once = False
        self.batches_done += 1
        self.steps += completes
        self.guard.after_step(batch, f"epoch {self.epoch}, step {self.steps + (not completes)}")
        return completes

    def _agree(self) -> int:
        """All processes do the same: where one met a number that is not finite, was asked to stop, or finds that it is
        time to save. Returns the last."""
        wrong = self.guard.found()
        minutes = self.opt.save_every_minutes
        overdue = 0 < minutes * 60 <= time.monotonic() - self.saved_at
        bad, stop, overdue = distributed.agree(wrong is not None, self.stop.signal, overdue)
        if bad:
            self.guard.respond(wrong)
        else:
            self.guard.good_step()
            if self.model.averages:
                self.model.averages.update()
        if stop:
            self.stop.signal = stop
        return overdue

    def _save_if_due(self, overdue: int) -> None:
        by_steps = self.steps % self.opt.save_latest_freq == 0
        if by_steps and self.opt.save_by_iter:
            self.save(f"iter_{self.steps}")
        elif (by_steps or overdue) and self.saved_place != (self.epoch, self.batches_done):
            self.save("latest")

    def _losses(self) -> dict[str, float]:
        losses = distributed.mean(self.model.get_current_losses())
        return {**losses, **self.model.get_current_norms(), **balance(losses)}

    def _watch(self, progress: TrainProgress | _Unwatched, computing: float, waiting: float) -> None:
        opt, steps = self.opt, self.steps
        if self.status:
            self.status.at(self.epoch, steps)
        if steps == self.first_step + 1 and not self.announced:     # the first one also allocates
            outlook.tell(opt, computing + waiting, self._batches_left())
        due = steps % opt.print_freq == 0
        losses = self._losses() if due or steps == 1 else None
        progress.advance(opt.batch_size, losses)
        if due and losses is not None:
            self._log_losses(losses, computing / opt.batch_size, waiting)
        save = steps % opt.update_html_freq == 0
        if save or steps % opt.display_freq == 0 or self.batches_done <= opt.accumulate:
            self.model.compute_visuals()
            self.visualizer.display_current_results(self.model.get_current_visuals(), self.epoch, steps, save)

    def _log_losses(self, losses: Mapping[str, float], computing: float = 0.0, waiting: float = 0.0) -> None:
        done = self.batches_done * self.opt.batch_size
        self.visualizer.print_current_losses(self.epoch, done, losses, computing, waiting, self.steps)
        self.visualizer.plot_current_losses(self.epoch, self.batches_done / self.dataset.batches, losses)

    def _end_epoch(self) -> None:
        better = self._validate()
        self.model.update_learning_rate()
        done, self.epoch, self.batches_done = self.epoch, self.epoch + 1, 0
        due = done % self.opt.save_epoch_freq == 0 or done == self.last_epoch
        if better or due:
            self.save("latest", *(["best"] if better else []), *([str(done)] if due else []))

    def _validate(self) -> bool:
        """True where the validation error is the smallest so far."""
        validation = self.validation
        if validation is None or self.epoch % self.opt.val_freq:
            return False
        errors = distributed.from_main(lambda: self.model.validate(validation))
        if not errors:
            return False
        name, value = next(iter(errors.items()))
        self.model.metric = value
        self._log_losses({**self._losses(), **errors})
        if distributed.is_main():
            self.validations.add(self.epoch, errors)
        better = value < self.best
        self.best, self.stale = (value, 0) if better else (self.best, self.stale + 1)
        if better:
            log.debug("epoch %d: %s %.4g, the best so far", self.epoch, name, value)
        return better

    def _end(self) -> int:
        self.stop.at_once = False
        if self.saved_place != (self.epoch, self.batches_done):
            self.save("latest")
        if self.stop:
            return self._stopped()
        self.visualizer.close()
        if 0 < self.opt.early_stop <= self.stale:
            log.info("stopped early: no smaller validation error (by %s) than %.4g in %d validations; --epoch best has "
                     "the weights of that one", self.opt.val_by, self.best, self.stale)
        if distributed.is_main():
            self.stop.at_once = True            # what is found here, `duiit predict` finds as well
            try:
                calibration.write_calibration(self.model, self.opt, self.dataset.dataset)
            except StoppedAtOnce:
                return self._stopped()
            self.stop.at_once = False
        log.info("trained %d steps; the run is in %s", self.steps, self.folder)
        return 0

    def _stopped(self) -> int:
        """Says so, where everything is on the disk. Returns the exit status."""
        self.visualizer.close()
        if distributed.is_main():
            log.warning("stopped at epoch %d, step %d; everything is saved. Go on with: %s", self.epoch, self.steps,
                        run_status.how_to_go_on(self.opt))
        return 128 + self.stop.signal

    # -- saving and resuming -----------------------------------------------------------------------------------

    def save(self, *suffixes: str) -> None:
        """The weights for use under these names, and then the training state: what it says was done is on the disk."""
        self.guard.wait()
        wrong = self.guard.found()
        if distributed.agree(wrong is not None)[0]:
            self.guard.respond(wrong)
        own = {"random": checkpoint.random_state(self.opt.device), "pools": self.model.pool_state()}
        own = distributed.gather(own)
        if distributed.is_main():
            try:
                for suffix in suffixes:
                    self.model.save_networks(suffix)
                self.states.save(self._state(own), best="best" in suffixes)
            except UserError as error:
                raise UserError(f"{error}. The last state that was saved is whole; go on from it with: "
                                f"{run_status.how_to_go_on(self.opt)}") from error
        self.saved_at = time.monotonic()
        self.saved_place: tuple[int, int] | None = self.epoch, self.batches_done
        self.stop.at_once = distributed.ranks() == 1 and not self.stop

    def _state(self, own: Sequence[Any]) -> dict[str, Any]:
        weights = {n: self.model.net(n).state_dict() for n in self.model.model_names}
        return {"epoch": self.epoch, "batches_done": self.batches_done, "steps": self.steps, "best": self.best,
                "stale": self.stale, "skipped": [self.guard.skipped, self.guard.in_a_row],
                "images": len(self.dataset), "drawing": augmentation.DRAWING, "logged": self.visualizer.logged(),
                "weights": weights, "model": self.model.training_state(), "ranks": own}

    def _take_up(self, state: Mapping[str, Any]) -> None:
        for name, weights in state["weights"].items():
            self.model.net(name).load_state_dict(weights)
        self.model.load_training_state(state["model"])
        mine = distributed.rank()
        if mine < len(state["ranks"]):              # a process that is new to the run has its own seed, an empty pool
            own = state["ranks"][mine]
            checkpoint.set_random_state(own["random"], self.opt.device)
            self.model.load_pool_state(own["pools"])
        self.epoch, self.batches_done, self.steps = state["epoch"], state["batches_done"], state["steps"]
        self.best, self.stale = state["best"], state["stale"]
        self.guard.skipped, self.guard.in_a_row = state["skipped"]
        self.visualizer.rewind(state["logged"])
        self.saved_at, self.saved_place = time.monotonic(), None
        self.stop.at_once = distributed.ranks() == 1        # of several, one must not leave the others waiting
        log.info("going on at epoch %d, step %d", self.epoch, self.steps)
