"""Made-up heads in Hounsfield units, and folders of them."""
import numpy as np
import pytest


@pytest.fixture
def write_npy():
    """write_npy(folder, {"p1": [slice, …]}) -> folder, with <folder>/p1/1.npy, … in HU."""
    def write(folder, scans):
        for name, slices in scans.items():
            (folder / name).mkdir(parents=True, exist_ok=True)
            for n, image in enumerate(slices, 1):
                np.save(folder / name / f"{n}.npy", np.asarray(image, np.float32))
        return folder
    return write


@pytest.fixture
def head():
    """head(value, size) -> a square head of one HU value in air."""
    def make(value=40.0, size=12):
        hu = np.full((size, size), -1000.0)
        hu[2:-2, 2:-2] = value
        return hu
    return make
