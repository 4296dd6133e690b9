"""`duiit translate`: a folder of source images becomes a folder of synthetic target images with the same labels."""
import logging
from pathlib import Path

from duiit_cli.adapter import OptionsCommand
from options import TranslateOptions
from util.errors import UserError

log = logging.getLogger(__name__)
COLUMNS = ("file", "patient", "label")


def run(opt):
    from data.modality_dataset import loader_of
    from duiit_cli.inference import load_model, target_intensity
    from util.files import atomic_folder, write_csv
    from util.progress import track

    source = source_of(opt)
    scans = loader_of(source).find_scans(Path(opt.input), opt)
    model = load_model(opt, "translator")
    net, intensity = model.translator(source), target_intensity(opt)
    rows = []
    with atomic_folder(opt.output, opt.force) as folder:
        for scan in track(scans, f"translating {source}", total=len(scans)):
            rows += translate_scan(net, scan, source, intensity, folder, opt, model.device)
        write_csv(folder / "labels.csv", [(f, p, "" if label is None else label) for f, p, label in rows], COLUMNS)
    unlabelled = sum(label is None for _, _, label in rows)
    log.info("%d files of %d scans written to %s, %d without a label", len(rows), len(scans), opt.output, unlabelled)


def source_of(opt):
    """The source modality that --input holds: --source, the run's only one, or the input folder's own name."""
    sources = opt.sources.split(",") if opt.sources else []
    if not sources:
        raise UserError(f"--name {opt.name}: a run of --model {opt.model} has no sources and cannot translate")
    if opt.source:
        if opt.source not in sources:
            raise UserError(f"--source {opt.source}: the run translates {', '.join(sources)}")
        return opt.source
    if len(sources) == 1:
        return sources[0]
    name = Path(opt.input).resolve().name
    if name not in sources:
        raise UserError(f"--source is missing: the run translates {', '.join(sources)}, and --input {opt.input} is "
                        "named like none of them")
    return name


def translate_scan(net, scan, source, intensity, folder, opt, device):
    """Writes one scan's translations under `folder`; [(file, patient, label)]. Empty slices become background."""
    from data.transforms import blend_neighbours, resize
    from data.writers import write_scan
    from duiit_cli.inference import read, translate

    prepared = read(scan, source, opt.input_nc, opt)
    images = blend_neighbours(translate(net, prepared.images, opt, device), opt.slice_blend)
    if not opt.keep_network_size:
        images = [resize(i, *s.image.shape[-2:]) for i, s in zip(images, prepared.slices, strict=True)]
    slices = prepared.slices
    if opt.format != "nifti" and not opt.keep_empty:        # a volume stays whole; other formats leave out empty slices
        kept = [(s, i) for s, i, empty in zip(slices, images, prepared.empty, strict=True) if not empty]
        slices, images = [s for s, _ in kept], [i for _, i in kept]
    return write_scan(folder, scan, slices, images, intensity, opt.format) if slices else []


command = OptionsCommand("translate", TranslateOptions, run, help="""Translate a folder of source images with a trained
run. Paths are mirrored, labels are carried over into labels.csv, so that the output is a training folder at once.

\b
duiit translate --name demo --input ./mri_ct/mri --output ./synthetic_ct""")
