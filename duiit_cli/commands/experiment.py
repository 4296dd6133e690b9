"""`duiit experiment`."""
from argparse import Namespace

from duiit.options import ExperimentOptions
from duiit_cli.adapter import OptionsCommand


def run(opt: Namespace) -> int:
    from duiit_cli.experiments.running.experiment import experiment  # late: torch takes seconds to import

    return experiment(opt)


command = OptionsCommand("experiment", ExperimentOptions, run, help="""Compare methods on your data: every method is
trained and tested on several random splits, and a report says which is better and how sure that is, with the paper's
figures beside. It can be stopped at any time (Ctrl-C) and goes on where it stopped when it is called again.

\b
duiit experiment --dataroot ./mri_ct --output ./experiment --dry_run
duiit experiment --dataroot ./mri_ct --output ./experiment
duiit experiment --dataroot ./mri_ct --output ./experiment --methods pure_ct,cyclegan,duiit --splits 5 --jobs 2
duiit experiment --output ./experiment                 (goes on with it)
duiit experiment --output ./experiment --report_only""")
