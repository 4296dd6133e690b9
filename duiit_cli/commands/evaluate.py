"""`duiit evaluate`."""
from argparse import Namespace

from duiit.options import EvaluateOptions
from duiit_cli.adapter import OptionsCommand


def run(opt: Namespace) -> int:
    from duiit_cli.evaluation.image_sets import evaluate  # late: torch takes seconds to import

    return evaluate(opt)


command = OptionsCommand("evaluate", EvaluateOptions, run, help="""Say how good translated images are: how far they are
from real ones as a set (FID, KID and the like), with --paired how far each is from its truth (MAE in HU, PSNR, SSIM in
the body), and with --name how well that run's predictor reads their labels off them.

\b
duiit evaluate --real ./mri_ct/ct --fake ./synthetic_ct --name pure
duiit evaluate --real ./truth --fake ./synthetic_ct --paired --output quality.json""")
