"""`duiit train`."""
import shutil
from contextlib import contextmanager, suppress
from pathlib import Path

from duiit_cli.adapter import OptionsCommand
from options import TrainOptions, run_file


def run(opt):
    from duiit_cli.training import train  # late: torch takes seconds to import

    with _begun_or_not_at_all(Path(opt.checkpoints_dir) / opt.name):
        return train(opt)


@contextmanager
def _begun_or_not_at_all(folder):
    """Removes a run's new folder where the run failed before it began, that is, before its options were written."""
    made = [f for f in (folder, *folder.parents) if not f.exists()]
    try:
        yield
    except BaseException:
        if made and not (folder / run_file.NAME).is_file():
            shutil.rmtree(folder, ignore_errors=True)
            for parent in made[1:]:
                with suppress(OSError):             # another run's, by now
                    parent.rmdir()
        raise


command = OptionsCommand("train", TrainOptions, run, help="""Train a model on the images under --dataroot.

\b
duiit train --dataroot ./mri_ct --name demo --lambda_pred 0.001
duiit train --model predictor --dataroot ./mri_ct --extra ./synthetic_ct --name mix
duiit train --name demo --continue_train

The options below are those of the chosen --model and --dataset_mode; name another to see its own.""")
