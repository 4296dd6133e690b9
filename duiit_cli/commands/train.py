"""`duiit train`."""
from argparse import Namespace

from duiit.options import TrainOptions
from duiit_cli.adapter import OptionsCommand


def run(opt: Namespace) -> int:
    from duiit.util import distributed  # late, as all that follows: torch takes seconds to import

    if opt.nproc > 1 and not distributed.launched():
        from duiit_cli.training.launcher import launch

        return launch(opt)
    from duiit_cli.training.loop import train

    return train(opt)


command = OptionsCommand("train", TrainOptions, run, help="""Train a model on the images under --dataroot.

\b
duiit train --dataroot ./mri_ct --name demo --lambda_pred 0.001
duiit train --model predictor --dataroot ./mri_ct --extra ./synthetic_ct --name mix
duiit train --name demo --continue_train
duiit train --dataroot ./mri_ct --name demo --nproc 4

The options below are those of the chosen --model and --dataset_mode; name another to see its own.""")
