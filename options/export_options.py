"""Options of `duiit export`."""
from argparse import Namespace
from pathlib import Path

from duiit.options.parsing import OptionParser
from duiit.options.test_options import RunOptions
from duiit.util.errors import UserError
from duiit.util.files import refuse_unwritable

FORMATS = ("onnx", "torchscript", "pt2")


class ExportOptions(RunOptions):
    def initialize(self, parser: OptionParser) -> OptionParser:
        g = parser.add_argument_group("Exporting")
        g.add_argument("--net", default="G", choices=["G", "P"], help="G: source to target; P: the label's predictor")
        g.add_argument("--source", help="the source's modality (needed only where the run has several)")
        g.add_argument("--format", default="onnx", choices=FORMATS,
                       help="onnx: for ONNX Runtime; torchscript: torch.jit.load; pt2: torch.export.load")
        g.add_argument("--output", help="file to write; what it takes and gives is written beside it as .json")
        return super().initialize(parser)

    def check(self, opt: Namespace) -> None:
        super().check(opt)
        if not opt.output:
            raise UserError("--output is missing: name the file to write")
        if opt.output.lower().endswith(".json"):
            raise UserError(f"--output {opt.output}: the description is written as .json beside the network; name it "
                            f"such as net.{opt.format}")
        if Path(opt.output).is_dir():
            raise UserError(f"--output {opt.output}: is a folder; name the file, such as net.{opt.format}")
        refuse_unwritable("--output", opt.output)
