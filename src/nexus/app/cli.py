"""The command `nexus`. Commands are a literal table, imported only when called, so that `nexus --help` stays fast."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from nexus.infra.shell import Shell
from nexus.infra.visible import visible
from nexus.kernel.errors import FileError, NexusError, UsageError
from nexus.kernel.registry import Registry

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

# name -> (where it is, what the list says). One line here and one file there add a command.
TABLE: dict[str, tuple[str, str]] = {
    "launch": ("nexus.app.commands.launch:command", "Run a job file, or a command, on the cheapest machine."),
    "runs": ("nexus.launch.faces.commands.runs:command", "What runs, what ran, what it cost."),
    "show": ("nexus.launch.faces.commands.show:command", "Everything about a run."),
    "logs": ("nexus.track.faces.commands.logs:command", "Read or follow a run's log."),
    "stop": ("nexus.launch.faces.commands.stop:command", "Stop a run."),
    "restart": ("nexus.launch.faces.commands.restart:command", "Run the same job again."),
    "exec": ("nexus.launch.faces.commands.exec:command", "Run a command inside a running task."),
    "ssh": ("nexus.launch.faces.commands.ssh:command", "Open a shell in a running task, or on a node."),
    "port-forward": ("nexus.launch.faces.commands.port_forward:command", "A port of a running task, on this machine."),
    "why": ("nexus.launch.faces.commands.why:command", "Why a run waits, or why it ended."),
    "cost": ("nexus.launch.faces.commands.cost:command", "What runs cost, and who spent it."),
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
    "server": ("nexus.app.commands.server:command", "Run the server alone, for a service manager or a container."),
    "login": ("nexus.app.commands.login:command", "Use another server from now on."),
    "quota": ("nexus.launch.faces.commands.quota:command", "What the project may hold, and what it does."),
    "nodes": ("nexus.launch.faces.commands.nodes:command", "The machines there are."),
    "offers": ("nexus.launch.faces.commands.offers:command", "Machines that could be rented or started, by price."),
    "fleet": ("nexus.launch.faces.commands.fleet:command", "Machines that are started when jobs need them."),
    "agent": ("nexus.agent.faces.commands.agent:command", "Let this machine join a server and work for it."),
    "project": ("nexus.app.commands.project:command", "Projects: create, list, use, remove, members."),
    "user": ("nexus.access.faces.commands.user:command", "Users: add, list, remove; roles and passwords."),
    "secret": ("nexus.access.faces.commands.secret:command", "Values that only tasks see, such as HF_TOKEN."),
    "audit": ("nexus.access.faces.commands.audit:command", "Who did what, and proof that it was not changed."),
    "token": ("nexus.access.faces.commands.token:command", "Make, list and revoke tokens."),
    "doctor": ("nexus.app.commands.doctor:command", "What this machine has, what is missing, and how to get it."),
    "completion": ("nexus.app.commands.completion:command", "Complete commands and names with the Tab key."),
}

SECTIONS: dict[str, tuple[str, ...]] = {
    "Run jobs": ("launch", "runs", "show", "logs", "stop", "restart", "why", "cost", "events", "job"),
    "Look inside": ("exec", "ssh", "port-forward"),
    "What they made": ("metrics", "artifacts", "models"),
    "Train, federate, deploy": ("tune", "federate", "deploy", "endpoints", "chat", "store"),
    "Who may do what": ("project", "user", "token", "secret", "audit"),
    "This machine and its server": (
        *(
            "up",
            "down",
            "server",
            "open",
            "login",
            "nodes",
            "fleet",
            "quota",
            "offers",
            "agent",
            "doctor",
            "completion",
        ),
    ),
}


class LazyGroup(click.Group):
    """A group whose commands are imported when they are called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(TABLE)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in TABLE:
            return None
        command = with_json(COMMANDS.get(cmd_name))
        return with_completion(cmd_name, command) if ctx.resilient_parsing else command  # as a shell asks

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """From the table: a shell waits, and every command would have to be imported for the same words."""
        from click.shell_completion import CompletionItem

        found = [CompletionItem(name, help=says) for name, (_, says) in TABLE.items() if name.startswith(incomplete)]
        return [*found, *super(click.Group, self).shell_complete(ctx, incomplete)]

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        for section, names in SECTIONS.items():
            with formatter.section(section):
                formatter.write_dl([(name, TABLE[name][1]) for name in names])

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        try:
            return super().resolve_command(ctx, args)
        except click.exceptions.NoSuchCommand as error:
            raise click.exceptions.NoSuchCommand(args[0], possibilities=TABLE, ctx=ctx) from error


def with_json(command: click.Command) -> click.Command:
    """`nexus runs --json` means `nexus --json runs`: people write it last, where it comes to mind."""
    if isinstance(command, click.Group):
        for child in command.commands.values():
            with_json(child)
    if not any("--json" in parameter.opts for parameter in command.params):
        says = "Print JSON for machines."
        command.params.append(click.Option(["--json"], is_flag=True, expose_value=False, callback=_json, help=says))
    return command


def with_completion(name: str, command: click.Command) -> click.Command:
    """Arguments that name a run, a node or the like are completed by asking the server."""
    from nexus.app.completing import completer

    if isinstance(command, click.Group):
        for child in command.commands.values():
            with_completion(name, child)
    for parameter in command.params:
        if isinstance(parameter, click.Argument) and parameter.name and parameter._custom_shell_complete is None:  # noqa: SLF001 (click has no other door)
            parameter._custom_shell_complete = completer(name, parameter.name)  # noqa: SLF001
    return command


def _json(ctx: click.Context, _: click.Parameter, given: bool) -> None:
    if given and isinstance(ctx.obj, Shell):
        ctx.obj.json = True


COMMANDS: Registry[click.Command] = Registry("nexus.commands", {name: target for name, (target, _) in TABLE.items()})


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--json", "as_json", is_flag=True, help="Print JSON for machines.")
@click.option("--url", envvar="NEXUS_URL", help="The server; else the one that `nexus up` started here.")
@click.option("--project", envvar="NEXUS_PROJECT", help="The project to work in; else that of `nexus project use`.")
@click.version_option(package_name="nexus")
@click.pass_context
def nexus(ctx: click.Context, as_json: bool, url: str | None, project: str | None) -> None:
    """Launch any AI job anywhere: train, fine-tune, serve and federate, on your own machines."""
    from nexus.app.connect import connect

    ctx.obj = Shell(connect=lambda: connect(url, project), json=as_json)


def main(args: list[str] | None = None) -> Any:
    """The entry point: errors of the tree become one line, a hint, and their exit code."""
    words = sys.argv[1:] if args is None else args
    as_json = "--json" in (words[: words.index("--")] if "--" in words else words)
    try:
        return nexus.main(args=args, prog_name="nexus", standalone_mode=False)
    except NexusError as error:
        _tell(error, as_json=as_json)
        sys.exit(error.exit_code)
    except click.exceptions.Exit as stop:
        sys.exit(stop.exit_code)
    except click.Abort:
        sys.exit(130)
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        sys.exit(error.exit_code)
    except click.ClickException as error:
        _tell(_in_our_words(error), as_json=as_json)
        sys.exit(error.exit_code)


def _tell(error: NexusError, *, as_json: bool) -> None:
    """On standard error: for people, or as the body that the HTTP API would answer."""
    if as_json:
        import msgspec

        click.echo(msgspec.json.encode(error.as_dict(), enc_hook=str), err=True)
        return
    where = f"{error.where}: " if isinstance(error, FileError) and error.where else ""
    click.echo(visible(f"error: {where}{error.message}"), err=True)
    if error.hint:
        click.echo(visible(f"  → {error.hint}"), err=True)


def _in_our_words(error: click.ClickException) -> UsageError:
    """What click has to say about the words of a command line."""
    said = error.format_message().rstrip(".")
    ctx = error.ctx if isinstance(error, click.UsageError) else None
    hint = f"{ctx.command_path} --help" if ctx else ""
    if isinstance(error, click.MissingParameter) and ctx:
        hint = " ".join([ctx.command_path, *ctx.command.collect_usage_pieces(ctx)])
    return UsageError(said[:1].lower() + said[1:], hint=hint)
