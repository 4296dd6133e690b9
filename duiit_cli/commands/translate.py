"""`duiit translate`."""
from argparse import Namespace

from duiit.options import TranslateOptions
from duiit_cli.adapter import OptionsCommand


def run(opt: Namespace) -> None:
    from duiit_cli.inference.translation import translate_scans  # late: torch takes seconds to import

    translate_scans(opt)


command = OptionsCommand("translate", TranslateOptions, run, help="""Translate a folder of source images with a trained
run. Paths are mirrored, labels are carried over into labels.csv, so that the output is a training folder at once.

\b
duiit translate --name demo --input ./mri_ct/mri --output ./synthetic_ct --for_training    # for --extra
duiit translate --name demo --input ./mri_ct/mri --output ./to_look_at""")
