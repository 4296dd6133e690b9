"""`duiit export`: a run's network as a file for other programs."""
from argparse import Namespace

from duiit.options import ExportOptions
from duiit_cli.adapter import OptionsCommand


def run(opt: Namespace) -> int:
    from duiit_cli.inference.export import export  # late: torch takes seconds to import

    return export(opt)


command = OptionsCommand("export", ExportOptions, run, help="""Write one network of a trained run for other programs:
ONNX, TorchScript or PT2, for any number and size of images, with the mapping to and from HU inside. The file is run
beside the original on images of the run's data and refused if they differ. What it takes and gives is written beside
it, with .json in place of its ending.

\b
duiit export --name demo --net G --format onnx --output mri_to_ct.onnx
duiit export --name mix --net P --format pt2 --output age.pt2""")
