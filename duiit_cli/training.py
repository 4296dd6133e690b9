"""The training loop: the same for every model, from the first batch to the last saved state.

A run's folder holds everything needed to go on with it: `latest_state.pth` is written whole or not at all and holds
weights, optimizers, schedules, image pools, random generators and the place in the epoch. The order of the images and
their augmentation follow from (seed, epoch) alone, so a run that was stopped and continued ends with the same weights.
"""
import logging
import math
import signal
import time
from contextlib import contextmanager
from pathlib import Path

from data import create_dataset
from duiit_cli import __version__
from models import create_model
from options import run_file
from util import checkpoint
from util.errors import UserError
from util.files import write_text
from util.logs import log_to_file
from util.progress import TrainProgress
from util.visualizer import Visualizer

log = logging.getLogger(__name__)
STATE = "latest_state.pth"


def train(opt):
    """Trains the run that `opt` describes. Returns the exit status: 0, or 128 + signal where one stopped it."""
    folder = Path(opt.checkpoints_dir) / opt.name
    _refuse_overwriting(folder, opt)
    checkpoint.seed_everything(opt.seed)
    dataset = create_dataset(opt)
    checkpoint.seed_everything(opt.seed)        # the networks start the same, whatever reading the data drew
    model = create_model(opt)
    model.setup(opt)
    run_file.write(folder, opt, __version__)
    write_text(folder / "train_opt.txt", _readable(opt))
    handler = log_to_file(folder / "train.log")
    try:
        with _stop_signals() as stop:
            return TrainingRun(opt, folder, dataset, model, stop).go()
    finally:
        logging.getLogger().removeHandler(handler)
        handler.close()


def _refuse_overwriting(folder, opt):
    if not opt.continue_train and (folder / run_file.NAME).is_file() and any(folder.glob("*_net_*.pth")):
        raise UserError(f"--name {opt.name}: {folder} already holds a trained run; give another --name, "
                        "go on with it by --continue_train, or remove the folder")


def _readable(opt):
    width = max(len(k) for k in vars(opt))
    return "".join(f"{k:>{width}}: {v}\n" for k, v in sorted(vars(opt).items()))


@contextmanager
def _stop_signals():
    """Yields a dict that receives the signal which asks to stop; a second Ctrl-C stops at once."""
    stop = {}

    def ask(number, frame):
        if stop and number == signal.SIGINT:
            raise KeyboardInterrupt
        stop["signal"] = number
        log.warning("stopping after this step")

    try:
        before = {s: signal.signal(s, ask) for s in (signal.SIGINT, signal.SIGTERM)}
    except ValueError:                          # not in the main thread: whoever runs us there stops us another way
        before = {}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class TrainingRun:
    """Where a run stands (epoch, batches of it done, steps in all) and how it goes on."""

    def __init__(self, opt, folder, dataset, model, stop):
        self.opt, self.folder, self.dataset, self.model, self.stop = opt, folder, dataset, model, stop
        self.epoch, self.batches_done, self.steps = opt.epoch_count, 0, 0
        self.best = math.inf
        self.last_epoch = opt.n_epochs + opt.n_epochs_decay
        held_out = getattr(dataset.dataset, "held_out", None)
        self.validation = held_out("val") if opt.val_freq and held_out else None
        if opt.continue_train:
            self._resume()

    # -- the run -----------------------------------------------------------------------------------------------

    def go(self):
        self.visualizer = Visualizer(self.opt)
        images = self.dataset.batches * self.opt.batch_size
        log.info("%d images, %d steps an epoch, on %s", len(self.dataset), self.dataset.batches, self.opt.device)
        with TrainProgress(self.last_epoch, images, first_epoch=self.epoch) as progress:
            while self.epoch <= self.last_epoch and not self.finished():
                self._one_epoch(progress)
        return self._end()

    def finished(self):
        return bool(self.stop) or 0 < self.opt.max_steps <= self.steps

    def _one_epoch(self, progress):
        progress.start_epoch(self.epoch)
        progress.advance(self.batches_done * self.opt.batch_size)
        self.visualizer.reset()
        self.dataset.set_epoch(self.epoch, self.batches_done)
        self.model.train()
        began = time.monotonic()
        for batch in self.dataset:
            fetched = time.monotonic()
            self._step(batch)
            self._watch(progress, time.monotonic() - fetched, fetched - began)
            if self.finished():
                break
            began = time.monotonic()
        if self.batches_done >= self.dataset.batches:
            self._end_epoch()

    def _step(self, batch):
        self.model.set_input(batch)
        self.model.optimize_parameters()
        self.steps += 1
        self.batches_done += 1
        if self.steps % self.opt.save_latest_freq == 0:
            self.save(f"iter_{self.steps}" if self.opt.save_by_iter else "latest")

    def _watch(self, progress, computing, waiting):
        due = self.steps % self.opt.print_freq == 0
        losses = self.model.get_current_losses() if due or self.steps == 1 else None
        progress.advance(self.opt.batch_size, losses)
        if due:
            self._check_finite(losses)
            done = self.batches_done * self.opt.batch_size
            batch = self.opt.batch_size
            self.visualizer.print_current_losses(self.epoch, done, losses, computing / batch, waiting, self.steps)
            self.visualizer.plot_current_losses(self.epoch, self.batches_done / self.dataset.batches, losses)
        save = self.steps % self.opt.update_html_freq == 0
        if save or self.steps % self.opt.display_freq == 0 or self.batches_done == 1:
            self.model.compute_visuals()
            self.visualizer.display_current_results(self.model.get_current_visuals(), self.epoch, self.steps, save)

    def _check_finite(self, losses):
        wrong = [name for name, value in losses.items() if not math.isfinite(value)]
        if wrong:
            paths = self.model.get_image_paths()
            raise UserError(f"loss {wrong[0]} is not a finite number at epoch {self.epoch}, step {self.steps} (images "
                            f"{', '.join(map(str, paths[:2]))}, …); the last saved state in {self.folder} is good: try "
                            "a lower --lr, and look for near-empty slices with `duiit data check`")

    def _end_epoch(self):
        self._validate()
        self.model.update_learning_rate()
        done, self.epoch, self.batches_done = self.epoch, self.epoch + 1, 0
        if done % self.opt.save_epoch_freq == 0 or done == self.last_epoch:
            self.model.save_networks(str(done))
            self.save("latest")

    def _validate(self):
        if self.validation is None or self.epoch % self.opt.val_freq:
            return
        errors = self.model.validate(self.validation)
        if not errors:
            return
        name, value = next(iter(errors.items()))
        self.model.metric = value
        done = self.dataset.batches * self.opt.batch_size
        losses = {**self.model.get_current_losses(), **errors}
        self.visualizer.print_current_losses(self.epoch, done, losses, 0.0, 0.0, self.steps)
        self.visualizer.plot_current_losses(self.epoch, 1.0, losses)
        if value < self.best:
            self.best = value
            self.model.save_networks("best")
            log.debug("epoch %d: %s %.4g, the best so far", self.epoch, name, value)

    def _end(self):
        self.save("latest")
        self.visualizer.close()
        if self.stop:
            log.warning("stopped at epoch %d, step %d; everything is saved. Go on with: duiit train --name %s%s "
                        "--continue_train", self.epoch, self.steps, self.opt.name, self._where())
            return 128 + self.stop["signal"]
        log.info("trained %d steps; the run is in %s", self.steps, self.folder)
        return 0

    def _where(self):
        default = self.opt.checkpoints_dir == "./checkpoints"
        return "" if default else f" --checkpoints_dir {self.opt.checkpoints_dir}"

    # -- saving and resuming -----------------------------------------------------------------------------------

    def save(self, suffix):
        """The weights for use, and the training state for going on."""
        self.model.save_networks(suffix)
        weights = {n: self.model.net(n).state_dict() for n in self.model.model_names}
        checkpoint.save({"epoch": self.epoch, "batches_done": self.batches_done, "steps": self.steps,
                         "best": self.best, "weights": weights, "random": checkpoint.random_state(),
                         "model": self.model.training_state()}, self.folder / STATE)

    def _resume(self):
        path = self.folder / STATE
        if self.opt.epoch != "latest" or self.opt.load_iter or not path.is_file():
            log.info("starting from the weights alone (no training state for --epoch %s)", self.opt.epoch)
            return
        state = checkpoint.load(path, self.opt.device)
        for name, weights in state["weights"].items():
            self.model.net(name).load_state_dict(weights)
        self.model.load_training_state(state["model"])
        checkpoint.set_random_state(state["random"])
        self.epoch, self.batches_done, self.steps = state["epoch"], state["batches_done"], state["steps"]
        self.best = state["best"]
        log.info("going on at epoch %d, step %d", self.epoch, self.steps)
