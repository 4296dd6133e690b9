"""Lays out the LGG MRI set (`kaggle_3m`) for the study: FLAIR as the source, post-contrast T1 as the target.

`<work>/pool` holds each usable patient's two contrasts as 8-bit PNGs, written once. `<work>/data/roles_<s>` is what an
experiment reads, for the assignment of patients to roles that is drawn from seed s: links to the pool, and tables.

    roles_<s>/flair/<patient>, labels.csv            source patients
    roles_<s>/t1gd/<patient>, labels.csv             target patients: others, nobody is both
    roles_<s>/truth/flair/<patient>, labels.csv      the post-contrast T1 of the source patients, slice by slice
"""
import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import numpy as np
from PIL import Image

from duiit.data.mri_dataset import CHANNELS, MriDataset
from duiit.data.preparing.intensity import robust_range
from duiit.data.readers import has_signal, read_scan
from duiit.data.readers.slice import DISPLAY, GREY
from duiit.util.errors import UserError
from duiit.util.files import atomic_folder, write_csv, write_json

SOURCE, TARGET = "flair", "t1gd"
CHANNEL_OF = {SOURCE: CHANNELS["flair"], TARGET: CHANNELS["post"]}
NO_AGE, NO_TARGET = "no age", "no post-contrast T1 (its channel is a copy of FLAIR)"


@dataclass(frozen=True)
class Pool:
    """ages: {usable patient: age in years}. left_out: {reason: [patient, …]}. slices: images of each contrast.
    empty: slices that are left out because one of the contrasts shows nothing."""
    folder: Path
    ages: dict
    left_out: dict
    slices: int
    empty: int


def write_pool(data, folder):
    """Reads the data set in `data` and writes its Pool to `folder`, unless it is there. Raises UserError."""
    folder, data = Path(folder), Path(data).resolve()
    about = _read_pool(folder)
    if about.pop("data", None) != str(data):
        with atomic_folder(folder, force=True) as part:
            about = _fill(part, MriDataset.find_scans(data, SimpleNamespace()))
            write_json(part / "pool.json", {"data": data, **about})
    return Pool(folder, **about)


def _read_pool(folder):
    try:
        return json.loads((folder / "pool.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}


def _fill(folder, scans):
    """Writes the contrasts of the patients who have both; returns what a Pool says of them."""
    ages, left_out, counts = {}, {NO_AGE: [], NO_TARGET: []}, {"slices": 0, "empty": 0}
    for scan in scans:
        slices = [(s.path.stem.rpartition("_")[2], s.image) for s in read_scan(scan)]
        if any(image.ndim == 2 for _, image in slices):
            raise UserError(f"{scan.files[0]}: is not an image with three channels; --data takes kaggle_3m as "
                            "distributed")
        reason = NO_AGE if scan.label is None else NO_TARGET if _repeats_flair(slices) else None
        if reason:
            left_out[reason].append(scan.patient)
            continue
        shown = [(n, image) for n, image in slices if _shows_both(image)]
        counts["slices"] += len(shown)
        counts["empty"] += len(slices) - len(shown)
        if shown:
            ages[scan.patient] = scan.label
            for contrast, channel in CHANNEL_OF.items():
                _write_contrast(folder / contrast / scan.patient, [(n, image[channel]) for n, image in shown])
    return {"ages": ages, "left_out": left_out, **counts}


def _repeats_flair(slices):
    """Where a sequence is missing, the data set's owners put FLAIR in its channel."""
    return all(np.array_equal(image[CHANNEL_OF[SOURCE]], image[CHANNEL_OF[TARGET]]) for _, image in slices)


def _shows_both(image):
    return all(has_signal(image[channel], DISPLAY) for channel in CHANNEL_OF.values())


def _write_contrast(folder, slices):
    """slices: [(number, (H, W) grey values)] of one patient -> 8-bit PNGs between the patient's robust percentiles.

    The level of 255 differs from scan to scan. The house's MRI loader scales so too, but by the file's folder; here it
    is done once, so that a single true image is on the scale of the patient's images that were trained on.
    """
    folder.mkdir(parents=True)
    scale = robust_range([image for _, image in slices], GREY)
    for number, image in slices:
        pixels = np.rint((scale.normalise(image) + 1) * 127.5).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")


def draw_roles(patients, seed, train, test, val=0):
    """{"target": [patient, …], "source": [patient, …]}: train + val + test patients of the target, all others of the
    source, drawn from `seed`. Raises UserError where fewer than two would be left for the source."""
    patients, wanted = sorted(patients), train + val + test
    if len(patients) < wanted + 2:
        raise UserError(f"{len(patients)} usable patients are too few for {wanted} of the target and 2 of the source; "
                        "lower --train_patients or --test_patients")
    order = [patients[i] for i in np.random.default_rng(seed).permutation(len(patients))]
    return {"target": sorted(order[:wanted]), "source": sorted(order[wanted:])}


def write_roles(pool, roles, folder):
    """Writes the --dataroot of one assignment of roles (see above); one that is there already is made anew."""
    folder = Path(folder)
    shutil.rmtree(folder, ignore_errors=True)
    with atomic_folder(folder) as part:
        for place, contrast, role in ((SOURCE, SOURCE, "source"), (TARGET, TARGET, "target"),
                                      (f"truth/{SOURCE}", TARGET, "source")):
            (part / place).mkdir(parents=True)
            for patient in roles[role]:
                (part / place / patient).symlink_to((pool.folder / contrast / patient).resolve())
            write_csv(part / place / "labels.csv", [(p, pool.ages[p]) for p in roles[role]], ("patient", "age"))
    return folder


def describe(pool):
    """One line: who takes part, and who does not and why."""
    out = "; ".join(f"{len(who)} left out: {why} ({', '.join(who)})" for why, who in pool.left_out.items() if who)
    return (f"{len(pool.ages)} patients with both contrasts and an age, {pool.slices} slices of each contrast; "
            f"{out or 'nobody left out'}; {pool.empty} slices left out as almost empty")
