"""`duiit test`."""
from argparse import Namespace

from duiit.options import TestOptions
from duiit_cli.adapter import OptionsCommand


def run(opt: Namespace) -> int:
    from duiit_cli.evaluation.held_out import test

    return test(opt)


command = OptionsCommand("test", TestOptions, run, help="""Score a trained run on the images that were held out from it:
predicted labels of target images, translations of source images, and how much of their label survived. Writes
<results_dir>/<name>/<phase>_<epoch>/index.html, metrics.json and predictions.csv.

\b
duiit test --name demo""")
