"""What --slice_blend brings and costs on a phantom: jumps between adjacent slices, and the error against the true CT.

    python benchmarks/slice_blend.py --name demo --checkpoints_dir demo/checkpoints --dataroot demo/phantom

Prints, for 0, 1 and 2 neighbours, the mean absolute difference between adjacent translated slices (HU, within the run's
window), the same of the true CTs, and the mean absolute error of the translations. All MRI patients of the phantom.
"""
import argparse
from pathlib import Path

import numpy as np

from duiit.data.modality_dataset import loader_of
from duiit.data.preparing.transforms import blend_neighbours
from duiit.options import TestOptions
from duiit_cli.evaluation.truth import Truth
from duiit_cli.inference.networks import load_model, read, target_intensity, translate


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("--name", "--checkpoints_dir", "--dataroot"):
        parser.add_argument(name, required=True)
    args = parser.parse_args()
    opt = TestOptions().parse(["--name", args.name, "--checkpoints_dir", args.checkpoints_dir,
                               "--dataroot", args.dataroot])
    source = opt.sources.split(",")[0]
    model, intensity, truth = load_model(opt, "translator"), target_intensity(opt), Truth(source, opt)
    half_width = (intensity.high - intensity.low) / 2
    volumes = []
    for scan in loader_of(source).find_scans(Path(args.dataroot) / source, opt):
        prepared = read(scan, source, opt.input_nc, opt)
        true = [truth.image(_Row(s, scan)) for s in prepared.slices]
        volumes.append((translate(model.translator(source), prepared.images, opt, model.device), true))
    print(f"{'neighbours':<12}{'jump (HU)':>12}{'error (HU)':>12}")
    for reach in (0, 1, 2):
        blended = [(blend_neighbours(fakes, reach), true) for fakes, true in volumes]
        error = np.mean([np.abs(np.stack(f) - np.stack(t)).mean() for f, t in blended]) * half_width
        print(f"{reach:<12}{_jump([f for f, _ in blended]) * half_width:>12.2f}{error:>12.2f}")
    print(f"{'true CT':<12}{_jump([t for _, t in volumes]) * half_width:>12.2f}")


class _Row:
    """What Truth asks of a row: the file, relative to the modality's folder, and the slice's place in it."""

    def __init__(self, s, scan):
        self.file, self.index = s.path.relative_to(scan.root).as_posix(), s.index


def _jump(volumes):
    return np.mean([np.abs(np.diff(np.stack(v), axis=0)).mean() for v in volumes])


if __name__ == "__main__":
    main()
