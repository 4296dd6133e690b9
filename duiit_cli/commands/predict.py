"""`duiit predict`."""
from argparse import Namespace

from duiit.options import PredictOptions
from duiit_cli.adapter import OptionsCommand


def run(opt: Namespace) -> int:
    from duiit_cli.inference.prediction import predict_scans  # late: torch takes seconds to import

    return predict_scans(opt)


command = OptionsCommand("predict", PredictOptions, run, help="""Predict the label of target scans with a trained run
(--model predictor, or the predictor of a duiit run). --input is a file, a folder, a DICOM series or a NIfTI volume.

\b
duiit predict --name mix --input ./new_ct --output ages.csv""")
