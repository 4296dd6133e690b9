"""`duiit data`: check a data folder before training on it, or make a phantom one."""
import click

from duiit_cli.adapter import OptionsCommand
from options import CheckOptions, PhantomOptions


@click.group("data", context_settings={"help_option_names": ["-h", "--help"]})
def command():
    """Check a data folder, or make a phantom one."""


def run_phantom(opt):
    from data.phantom import PhantomSpec, write_phantom
    from util.progress import track

    values = {k: v for k, v in vars(opt).items() if k not in ("output", "force")}
    summary = write_phantom(opt.output, PhantomSpec(**values),
                            lambda items, total, description: track(items, description, total), opt.force)
    for cohort, patients in summary.patients.items():
        click.echo(f"{cohort:>4}: {patients} patients, {summary.images[cohort]} images")
    click.echo(f"written to {summary.output}")


def run_check(opt):
    from duiit_cli.checking import check

    return check(opt)


command.add_command(OptionsCommand("phantom", PhantomOptions, run_phantom, help="""Write a digital head phantom: MRI, CT and
PET cohorts with known ages, laid out as the real data sets are distributed, and the true CT of every MRI and PET.

\b
duiit data phantom --output ./phantom"""))
command.add_command(OptionsCommand("check", CheckOptions, run_check, arguments=("dataroot",),
                                   help="""Report what lies in DATAROOT and what is wrong with it, before training does.

\b
duiit data check ./mri_ct"""))
