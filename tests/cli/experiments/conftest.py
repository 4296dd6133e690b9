"""Small experiment folders, written by hand as `duiit experiment` leaves them, with numbers that a test chooses."""
import json
from pathlib import Path

import pytest

COUNTS = {"train": {"images": 96, "patients": 12}, "val": {"images": 16, "patients": 2},
          "test": {"images": 24, "patients": 3}, "extra_images": 0}
NOISE = (0.0, 4.0, -4.0, 2.0, -2.0, 1.0, -1.0, 3.0)
METHODS = {
    "pure_ct": {"title": "PURE-CT", "sources": [], "table": "CT", "row": "PURE-CT", "translator": None},
    "cyclegan_mri": {"title": "CycleGAN (MRI → CT)", "sources": ["mri"], "table": "MRI", "row": "CycleGAN",
                     "translator": "cyclegan_mri"},
    "duiit_mri": {"title": "DUIIT (MRI → CT)", "sources": ["mri"], "table": "MRI", "row": "DUIIT",
                  "translator": "duiit_mri"},
    "duiit_pet": {"title": "DUIIT (PET → CT)", "sources": ["pet"], "table": "PET", "row": "DUIIT",
                  "translator": "duiit_pet"},
    "raw_mri": {"title": "Raw MRIs mixed in", "sources": ["mri"], "table": "MRI", "row": "raw", "translator": None},
    "oracle_mri": {"title": "Oracle: true CTs", "sources": ["mri"], "table": "MRI", "row": "oracle",
                   "translator": None},
    # What a user calls a method of their own says nothing about it.
    "mine": {"title": "DUIIT, guidance real", "sources": ["mri"], "table": "MRI", "row": "mine", "translator": "mine"},
    "purely": {"title": "Purely MRI", "sources": ["mri"], "table": "MRI", "row": "purely", "translator": None},
    **{f"augment_{n}": {"title": f"Augmented {n}", "sources": [], "table": "CT", "row": f"augment {n}",
                        "translator": None} for n in range(7)},
}


class Folder:
    """E, to be filled. `cells(method, values)`: a cell a value of the deciding metric, from split 0 on."""

    def __init__(self, path):
        self.path = Path(path)

    def plan(self, methods, splits, translators=(), roles=None, **settings):
        """roles: {method: role}, as the plan tells them; without, a plan of before it told them."""
        settings = {"dataroot": "phantom", "target": "ct", "task": "regression", "split_by": "patient",
                    "splits": splits, "seed": 0, "val_fraction": 0.1, "test_fraction": 0.2, **settings}
        self.task = settings["task"]
        self.write("experiment.json", {
            "duiit_version": "0.1.0", "created": "2030-01-02T03:04:05", "settings": settings,
            "methods": [{"name": name, **METHODS[name], **({"role": roles.get(name, "")} if roles is not None else {})}
                        for name in methods],
            "translators": [{"name": n, "title": METHODS[n]["title"], "sources": METHODS[n]["sources"]}
                            for n in translators]})
        return self

    def cells(self, method, values, floor=None, first=0, **changes):
        for split, value in enumerate(values, first):
            self.cell(method, split, value, floor, **changes)
        return self

    def filled(self, splits=8, floor=300.0, settings=(), roles=None, **means):
        """A plan of these methods, and cells of each around its mean."""
        self.plan(list(means), splits, roles=roles, **{"label_unit": "years", **dict(settings)})
        for order, (name, mean) in enumerate(means.items(), 1):
            self.cells(name, self.around(mean, splits, order), floor)
        return self

    @staticmethod
    def around(mean, splits=8, order=1):
        """Values that scatter about `mean` by a few, in an order of their own."""
        return [mean + NOISE[(k - order) % len(NOISE)] for k in range(splits)]

    def cell(self, method, split, value, floor=None, by_patient=None, **changes):
        """value: the deciding metric by image; by_patient (the same unless given) the one by patient."""
        patient = value if by_patient is None else by_patient
        floors = {} if floor is None else {"by_image": self.errors(24, floor), "by_patient": self.errors(3, floor)}
        self.write(self.cell_path(method, split) / "cell.json", {
            "method": method, "title": METHODS[method]["title"], "split": split, "seed": split,
            "split_seed": 100 + split, "seconds": 90.0, "finished": f"2030-01-02T04:0{split % 10}:00", "device": "cpu",
            "versions": {"duiit": "0.1.0", "torch": "2.6.0", "python": "3.11.4"},
            "commands": [f"duiit train --name {method}_{split} --split_seed {100 + split}"], "counts": COUNTS,
            "predictor": {"modality": "ct", "by_image": self.errors(24, value), "by_patient": self.errors(3, patient),
                          "predict_the_mean": floors}, **changes})
        return self

    def errors(self, n, value):
        if self.task == "classification":
            return {"n": n, "accuracy": value, "balanced_accuracy": value, "auroc": None}
        return {"n": n, "mse": value, "mae": value**0.5 * 0.8, "rmse": value**0.5, "bias": 0.5, "r2": 1 - value / 350,
                "pearson_r": None}

    def predictions(self, method, split, rows):
        """rows: (patient, label, prediction), of real target images; a translated one besides, which must not count."""
        lines = ["modality,image,patient,file,slice,label,prediction", "mri,mri as ct,p9,p9/1.png,1,1,999"]
        lines += [f"ct,ct,{patient},{patient}/{i}.png,1,{label},{said}"
                  for i, (patient, label, said) in enumerate(rows)]
        self.write(self.cell_path(method, split) / "results" / "predictions.csv", "\n".join(lines) + "\n")
        return self

    def failed(self, method, split, error="out of memory", log="cells/x/train.log"):
        self.write(self.cell_path(method, split) / "failed.json", {"error": error, "log": log})
        return self

    def quality(self, translator, split, source="mri", **parts):
        self.write(Path("translators") / translator / f"split_{split:02d}" / "quality.json", {
            "translator": translator, "title": METHODS[translator]["title"], "split": split, "sources": {source: {
                "label_fidelity": {"held_out": {}, "trained_on": {}}, "paired": {}, "distribution": {}, "examples": [],
                **parts}}})
        return self

    @staticmethod
    def cell_path(method, split):
        return Path("cells") / method / f"split_{split:02d}"

    def write(self, name, content):
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")


@pytest.fixture
def folder(tmp_path):
    """An empty experiment folder with the means to fill it."""
    return Folder(tmp_path / "experiment")
