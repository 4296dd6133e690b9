"""Options of `duiit translate`."""
from argparse import Namespace
from pathlib import Path

from duiit.options.parsing import OptionParser
from duiit.options.test_options import RunOptions
from duiit.util.bounds import COUNT
from duiit.util.errors import UserError
from duiit.util.files import check_replaceable, refuse_unwritable
from duiit.util.part_folder import part_of


class TranslateOptions(RunOptions):
    def initialize(self, parser: OptionParser) -> OptionParser:
        g = parser.add_argument_group("Translating")
        g.add_argument("--input", help="folder (or one file) of source images, with its labels table if there is one")
        g.add_argument("--output", help="folder to write to; it must not exist yet, or be empty")
        g.add_argument("--source", help="the source's modality (needed only where the run has several)")
        g.add_argument("--for_training", action="store_true",
                       help="write what networks are to train on: just what the generator made, as "
                            "--format tiff16 --keep_network_size")
        g.add_argument("--format", default="png", choices=["png", "png16", "tiff16", "tiff", "npy", "nifti", "dicom"],
                       help="png: 8 bit, the CT window; png16, tiff16: 16 bit with its HU scale; tiff, npy: "
                            "float HU; nifti: int16 HU volumes; dicom: CT series")
        g.add_argument("--slice_blend", type=COUNT, default=0,
                       help="average each translated slice with this many neighbours on either side")
        g.add_argument("--keep_network_size", action="store_true",
                       help="write at the network's size instead of the source's own")
        g.add_argument("--keep_identity", action="store_true",
                       help="dicom: keep patient, study and frame of reference of the source instead of replacing them")
        g.add_argument("--force", action="store_true", help="replace what --output holds")
        g.add_argument("--resume", action="store_true",
                       help="go on with a translation that was interrupted: what <output>.part holds stays")
        g.add_argument("--eval", action="store_true", help="no effect: generators always are in eval mode")
        return super().initialize(parser)

    def check(self, opt: Namespace) -> None:
        super().check(opt)
        if opt.for_training:
            if opt.format not in ("png", "tiff16"):
                raise UserError(f"--for_training: writes --format tiff16; leave out --format {opt.format}")
            opt.format, opt.keep_network_size = "tiff16", True
        if opt.spacing is not None and opt.format == "dicom" and opt.keep_network_size:
            raise UserError("--keep_network_size: DICOM is written on the source's own grid where the run has a "
                            "--spacing; leave it out, or give --format nifti")
        for name in ("input", "output"):
            if not getattr(opt, name):
                raise UserError(f"--{name} is missing: name the folder to {'read' if name == 'input' else 'write'}")
        self._check_places(Path(opt.input), Path(opt.output), opt.force, opt.resume)

    @staticmethod
    def _check_places(images: Path, output: Path, force: bool, resume: bool) -> None:
        """Raises UserError where what is written would lie among the images that are read, or in their place."""
        source, target = images.resolve(), output.resolve()
        if source.is_dir() and (target == source or source in target.parents):
            raise UserError(f"--output {output}: is in --input {images}, where the translations would be taken for "
                            "images of the source; give a folder elsewhere")
        if target in source.parents:
            raise UserError(f"--output {output}: holds --input {images}; give a folder elsewhere")
        if not (resume and part_of(output).is_dir()):       # what is there may be what was to be made
            check_replaceable(output, force, besides=part_of(output))
        refuse_unwritable("--output", output)
