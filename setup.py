"""Packaging of DUIIT. Why each dependency is there, and why in this range: docs/dependencies.md."""
import re
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent
VERSION = re.search(r'__version__ = "(.+)"', (HERE / "util" / "version.py").read_text(encoding="utf-8"))[1]
# In a checkout they stand beside each other, as the toolkit lays them out. Installed, names as common as these would
# meet other projects' packages, so they go into duiit.
INSIDE = ("data", "models", "options", "util")
PACKAGES = {"duiit": "duiit", "duiit_cli": "duiit_cli", **{f"duiit.{name}": name for name in INSIDE}}

ITK = ["SimpleITK>=2.4"]
DICOM = ["python-gdcm>=3.0.24"]
EXPORT = ["onnx>=1.17", "onnxscript>=0.1", "onnxruntime>=1.20"]
CLUSTER = ["submitit>=1.5"]
VISDOM = ["visdom>=0.2.4", "tornado>=6.5,<6.6"]

setup(
    name="duiit",
    version=VERSION,
    description="Unpaired medical image translation learned jointly with the predictor that uses it",
    long_description=(HERE / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="BSD-2-Clause",
    python_requires=">=3.11",
    package_dir=PACKAGES,
    packages=[name for top, folder in PACKAGES.items()
              for name in (top, *(f"{top}.{p}" for p in find_packages(folder)))],
    package_data={"duiit": ["py.typed"], "duiit.options": ["presets/*.toml"],
                  "duiit_cli": ["py.typed", "experiments/reporting/*.toml"]},
    install_requires=[
        "torch>=2.6",
        "torchvision>=0.21",
        "numpy>=1.26",
        "scipy>=1.11",
        "scikit-image>=0.22",
        "pandas>=2.1",
        "openpyxl>=3.1",
        "pillow>=11.3",
        "tifffile>=2023.9",
        "imagecodecs>=2023.9",
        "netpbmfile>=2023.8",
        "pydicom>=3.0.1,<4",
        "nibabel>=5.2",
        "click>=8.1.7,<9",
        "rich>=13.6",
        "dominate>=2.9",
        "matplotlib>=3.8",
        "torchmetrics>=1.4",
        "torch-fidelity>=0.3",
    ],
    extras_require={
        "visdom": VISDOM,
        "dicom": DICOM,
        "itk": ITK,
        "export": EXPORT,
        "cluster": CLUSTER,
        "test": ["pytest>=8", "pytest-timeout>=2.2", "pytest-xdist>=3.5", "ruff>=0.8", "mypy>=2.0,<3", *ITK,
                 "hypothesis>=6.100,<7", "nbclient>=0.10", "ipykernel>=6.29", *VISDOM, *EXPORT, *CLUSTER],
    },
    entry_points={"console_scripts": ["duiit = duiit_cli.main:main"]},
    classifiers=[
        "License :: OSI Approved :: BSD License",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Topic :: Scientific/Engineering :: Medical Science Apps.",
    ],
)
