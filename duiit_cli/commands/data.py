"""`duiit data`: check a data folder before training on it, or make a phantom one."""
from argparse import Namespace
from typing import TYPE_CHECKING

import click

from duiit.options import CheckOptions, PhantomOptions
from duiit_cli.adapter import OptionsCommand
from duiit_cli.group import SETTINGS, Group

if TYPE_CHECKING:
    from duiit.data.phantom import PhantomSummary


@click.group("data", cls=Group, context_settings=SETTINGS)
def command() -> None:
    """Check a data folder, or make a phantom one."""


def make_phantom(opt: Namespace) -> "PhantomSummary":
    """Writes the phantom; returns how many patients and images each cohort has."""
    from duiit.data.phantom import PhantomSpec, write_phantom
    from duiit.util.progress import track

    values = {k: v for k, v in vars(opt).items() if k not in ("output", "force", "words")}
    return write_phantom(opt.output, PhantomSpec(**values),
                         lambda items, total, description: track(items, description, total), opt.force)


def run_phantom(opt: Namespace) -> None:
    summary = make_phantom(opt)
    for cohort, patients in summary.patients.items():
        click.echo(f"{cohort:>4}: {patients} patients, {summary.images[cohort]} images")


def run_check(opt: Namespace) -> int:
    from duiit.data.checking.report import check

    return check(opt)


command.add_command(OptionsCommand("phantom", PhantomOptions, run_phantom, help="""Make a digital head phantom.

MRI, CT and PET cohorts with known ages are written as the real data sets are distributed, with the true CT of every
MRI and PET in truth/.

\b
duiit data phantom --output ./phantom"""))
command.add_command(OptionsCommand("check", CheckOptions, run_check,
                                   help="""Report what a data folder holds.

And what is wrong with it: unreadable files, missing labels, ages that cannot be, the same images under two names.
Exit status 2 if there are errors.

\b
duiit data check ./mri_ct"""))
