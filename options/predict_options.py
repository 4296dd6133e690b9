"""Options of `duiit predict`."""
from argparse import Namespace

from duiit.options.parsing import OptionParser
from duiit.options.test_options import RunOptions
from duiit.util.bounds import FRACTION
from duiit.util.errors import UserError
from duiit.util.files import refuse_unwritable


class PredictOptions(RunOptions):
    def initialize(self, parser: OptionParser) -> OptionParser:
        g = parser.add_argument_group("Predicting")
        g.add_argument("--input", help="a file, a folder, a DICOM series or a NIfTI volume of the target modality")
        g.add_argument("--output", help="where to write: .csv or .json (default: CSV to the screen)")
        g.add_argument("--aggregate", default="mean", choices=["mean", "median"],
                       help="how a scan's answer comes from those of its slices")
        g.add_argument("--interval", type=FRACTION, default=0.9,
                       help="share of new patients whose label the interval (or set of classes) is to hold; 0: none")
        g.add_argument("--per_slice", action="store_true", help="one row a slice instead of one a scan")
        return super().initialize(parser)

    def check(self, opt: Namespace) -> None:
        super().check(opt)
        if not opt.input:
            raise UserError("--input is missing: name the scan or the folder of scans to predict from")
        if opt.output and not opt.output.lower().endswith((".csv", ".json")):
            raise UserError(f"--output {opt.output}: give a name that ends in .csv or .json")
        if opt.output:
            refuse_unwritable("--output", opt.output)
