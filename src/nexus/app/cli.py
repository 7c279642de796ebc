"""The command `nexus`. Commands are a literal table, imported only when called, so that `nexus --help` stays fast."""

from __future__ import annotations

import sys
from typing import Any

import click

from nexus.infra.shell import Shell
from nexus.kernel.errors import NexusError
from nexus.kernel.registry import Registry

# name -> (where it is, what the list says). One line here and one file there add a command.
TABLE: dict[str, tuple[str, str]] = {
    "launch": ("nexus.app.commands.launch:command", "Run a job file, or a command, on the cheapest machine."),
    "runs": ("nexus.launch.faces.commands.runs:command", "What runs, what ran, what it cost."),
    "show": ("nexus.launch.faces.commands.show:command", "Everything about a run."),
    "logs": ("nexus.track.faces.commands.logs:command", "Read or follow a run's log."),
    "stop": ("nexus.launch.faces.commands.stop:command", "Stop a run."),
    "restart": ("nexus.launch.faces.commands.restart:command", "Run the same job again."),
    "why": ("nexus.launch.faces.commands.why:command", "Why a run waits, or why it ended."),
    "events": ("nexus.launch.faces.commands.events:command", "What happened, in order."),
    "job": ("nexus.launch.faces.commands.job:command", "Check, convert and describe job files."),
    "metrics": ("nexus.track.faces.commands.metrics:command", "A run's numbers, drawn in the terminal."),
    "artifacts": ("nexus.track.faces.commands.artifacts:command", "What runs have kept."),
    "models": ("nexus.track.faces.commands.models:command", "The model registry."),
    "tune": ("nexus.train.faces.commands.tune:command", "Fine-tune a language model, and register it."),
    "federate": ("nexus.federate.faces.commands.federate:command", "Learn together from data that stays put."),
    "deploy": ("nexus.deploy.faces.commands.deploy:command", "Put a model behind an endpoint, or update it."),
    "endpoints": ("nexus.deploy.faces.commands.endpoints:command", "Endpoints: list, show, roll back, delete."),
    "chat": ("nexus.deploy.faces.commands.chat:command", "Chat in the browser with a model that runs here."),
    "store": ("nexus.store.faces.commands.store:command", "Ready jobs, started by name."),
    "up": ("nexus.app.commands.up:command", "Start Nexus on this machine."),
    "down": ("nexus.app.commands.down:command", "Stop Nexus on this machine."),
    "open": ("nexus.app.commands.open:command", "Open the web pages, logged in."),
    "login": ("nexus.app.commands.login:command", "Use another server from now on."),
    "nodes": ("nexus.launch.faces.commands.nodes:command", "The machines there are."),
    "agent": ("nexus.agent.faces.commands.agent:command", "Let this machine join a server and work for it."),
    "token": ("nexus.access.faces.commands.token:command", "Make, list and revoke tokens."),
}

SECTIONS: dict[str, tuple[str, ...]] = {
    "Run jobs": ("launch", "runs", "show", "logs", "stop", "restart", "why", "events", "job"),
    "What they made": ("metrics", "artifacts", "models"),
    "Train, federate, deploy": ("tune", "federate", "deploy", "endpoints", "chat", "store"),
    "This machine and its server": ("up", "down", "open", "login", "nodes", "agent", "token"),
}


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
