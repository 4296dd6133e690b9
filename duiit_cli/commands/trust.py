"""`duiit trust`: the list of plug-in folders that runs may use without being asked."""
import click

from duiit.util import trust
from duiit.util.errors import UserError
from duiit_cli.group import SETTINGS


@click.command("trust", context_settings=SETTINGS)
@click.argument("folder", required=False, type=click.Path(file_okay=False), metavar="[DIR]")
@click.option("--list", "show", is_flag=True, help="show the folders on the list")
@click.option("--remove", is_flag=True, help="take DIR off the list")
def command(folder: str | None, show: bool, remove: bool) -> None:
    """Let runs use the plug-ins of a folder without --plugins.

    A run that was trained with plug-ins remembers their folder. Plug-ins are programs and run with your rights, so a
    run that names them is refused unless you say --plugins in the same call, or DIR is on this list. Trust folders
    whose files only you, or people you trust, can change.

    \b
    duiit trust ./my_plugins
    duiit trust --list
    duiit trust --remove ./my_plugins
    """
    if show == bool(folder) or (show and remove):
        raise UserError("trust: give a folder to trust, a folder and --remove, or --list alone")
    if show:
        for name in trust.folders():
            click.echo(name)
    elif remove:
        click.echo(f"{trust.remove(str(folder))} is not trusted any more")
    else:
        click.echo(f"{trust.add(str(folder))} is trusted: runs that name it use its plug-ins without --plugins")
