"""The command `nexus`. Commands are a literal table, imported only when called, so that `nexus --help` stays fast."""

from __future__ import annotations

import sys
from typing import Any

import click

from nexus.infra.shell import Shell
from nexus.kernel.errors import NexusError
from nexus.kernel.registry import Registry

# name -> (where it is, what the list says). One line here and one file there add a command.
TABLE: dict[str, tuple[str, str]] = {}

SECTIONS: dict[str, tuple[str, ...]] = {}


class LazyGroup(click.Group):
    """A group whose commands are imported when they are called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(TABLE)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in TABLE:
            return None
        return COMMANDS.get(cmd_name)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        for section, names in SECTIONS.items():
            with formatter.section(section):
                formatter.write_dl([(name, TABLE[name][1]) for name in names])

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            words = f"{error.message.rstrip('.')}. `nexus --help` lists the commands."
            raise click.UsageError(words, ctx) from error


COMMANDS: Registry[click.Command] = Registry("nexus.commands", {name: target for name, (target, _) in TABLE.items()})


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--json", "as_json", is_flag=True, help="Print JSON for machines.")
@click.option("--url", envvar="NEXUS_URL", help="The server; else the one that `nexus up` started here.")
@click.version_option(package_name="nexus")
@click.pass_context
def nexus(ctx: click.Context, as_json: bool, url: str | None) -> None:
    """Launch any AI job anywhere: train, fine-tune, serve and federate, on your own machines."""
    from nexus.app.connect import connect

    ctx.obj = Shell(connect=lambda: connect(url), json=as_json)


def main(args: list[str] | None = None) -> Any:
    """The entry point: errors of the tree become one line, a hint, and their exit code."""
    try:
        return nexus.main(args=args, standalone_mode=False)
    except NexusError as error:
        where = f"{error.where}: " if hasattr(error, "where") and error.where else ""
        click.echo(f"error: {where}{error.message}", err=True)
        if error.hint:
            click.echo(f"  → {error.hint}", err=True)
        sys.exit(error.exit_code)
    except click.exceptions.Exit as stop:
        sys.exit(stop.exit_code)
    except click.Abort:
        sys.exit(130)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
