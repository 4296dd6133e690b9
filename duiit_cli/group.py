"""Groups of commands: `duiit` itself and `duiit data`. Nothing here imports torch: help comes at once."""
from collections.abc import Mapping
from importlib import import_module
from keyword import iskeyword
from typing import Any

import click
from click.shell_completion import CompletionItem

from duiit.util.errors import UserError

SETTINGS = {"help_option_names": ["-h", "--help"]}


class Group(click.Group):
    """Without a command it shows its help; a command that does not exist is told with the nearest that does."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if not args and not ctx.resilient_parsing:
            click.echo(ctx.get_help(), err=True)
            ctx.exit(2)
        return super().parse_args(ctx, args)

    def resolve_command(self, ctx: click.Context,
                        args: list[str]) -> tuple[str | None, click.Command | None, list[str]]:
        known = self.list_commands(ctx)
        if args[0] not in known and not ctx.resilient_parsing:
            from duiit.options.parsing import nearest
            raise UserError(f"unknown command {args[0]}{nearest(args[0], known)}; there are {', '.join(known)}")
        return super().resolve_command(ctx, args)


class LazyGroup(Group):
    """Lists its commands from a table {name: help} and imports only the one that is called: from the module of that
    name in `package` (`import_` for `import`, as Python wants it)."""

    def __init__(self, *args: Any, package: str, table: Mapping[str, str], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.package, self.table = package, table

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.table)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in self.table:
            return None
        return import_module(f"{self.package}.{name}{'_' * iskeyword(name)}").command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, text in self.table.items()])

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        words = [CompletionItem(n, help=text) for n, text in self.table.items() if n.startswith(incomplete)]
        return words or click.Command.shell_complete(self, ctx, incomplete)
