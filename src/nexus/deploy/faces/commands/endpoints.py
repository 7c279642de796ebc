"""`nexus endpoints`: what serves, and how."""

from __future__ import annotations

import json
from pathlib import Path

import click

from nexus.deploy.faces import words
from nexus.deploy.faces.client import DeployClient
from nexus.infra.shell import Shell
from nexus.kernel.errors import NotFoundError, UsageError


@click.group(invoke_without_command=True)
@click.pass_context
def command(ctx: click.Context) -> None:
    """List endpoints, or look after one."""
    if ctx.invoked_subcommand is None:
        shell: Shell = ctx.obj
        found = DeployClient(shell.http).list()
        if shell.json:
            shell.emit(found)
            return
        shell.table(words.HEAD, [words.row(view) for view in found], empty="No endpoints. Make one: nexus deploy FILE")


@command.command()
@click.argument("name")
@click.pass_obj
def show(shell: Shell, name: str) -> None:
    """Show an endpoint with its replicas and revisions."""
    view = DeployClient(shell.http).show(name)
    if shell.json:
        shell.emit(view)
    else:
        words.tell(shell, view)


@command.command()
@click.argument("name")
@click.option("--to", type=int, default=0, metavar="REVISION", help="[default: the one that served before]")
@click.pass_obj
def rollback(shell: Shell, name: str, to: int) -> None:
    """Serve an earlier revision again."""
    client = DeployClient(shell.http)
    client.rollback(name, to)
    view = words.watch(shell, client.follow(name))
    if shell.json:
        shell.emit(view)
    elif view:
        shell.say(f"{view.name} serves {words.shown_model(view)} again, as revision {view.revision}")


@command.command()
@click.argument("name")
@click.argument("inputs", required=False)
@click.option("--timeout", type=click.FloatRange(min=0.1), default=300.0, show_default=True, help="Seconds to wait.")
@click.pass_obj
def call(shell: Shell, name: str, inputs: str | None, timeout: float) -> None:
    """Send INPUTS (JSON, or @FILE that holds it) to an endpoint and print its answer. Without INPUTS, its example."""
    client = DeployClient(shell.http)
    view = client.show(name)
    if view.openai:
        raise UsageError(f"{name} is a language model", hint=f"Talk to it: nexus chat {name}")
    given = _inputs(inputs) if inputs is not None else view.example.encode()
    if not given:
        hint = f"nexus endpoints call {name} '[1, 2]', or write an `example:` in the job file's deploy section."
        raise UsageError(f"{name} has no example to send", hint=hint)
    click.echo(client.predict(view, given, timeout))


def _inputs(words: str) -> bytes:
    """What the command line says, or the file that it names. Raises UsageError, NotFoundError."""
    try:
        given = Path(words[1:]).read_bytes() if words.startswith("@") else words.encode()
    except OSError as error:
        raise NotFoundError(f"cannot read {words[1:]}: {error.strerror}", hint="@FILE names a file of JSON.") from error
    try:
        json.loads(given)
    except ValueError as error:
        raise UsageError(
            f"the inputs are not JSON: {error}", hint="""Such as '{"pixels": [0, 1]}', or @FILE."""
        ) from error
    return given


@command.command()
@click.argument("name")
@click.pass_obj
def delete(shell: Shell, name: str) -> None:
    """Stop an endpoint's replicas and forget it."""
    DeployClient(shell.http).delete(name)
    if shell.json:
        shell.emit({"name": name, "state": "deleting"})
    shell.say(f"{name} is going away")
