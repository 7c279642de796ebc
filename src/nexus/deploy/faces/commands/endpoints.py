"""`nexus endpoints`: what serves, and how."""

from __future__ import annotations

import click

from nexus.deploy.faces import words
from nexus.deploy.faces.client import DeployClient
from nexus.infra.shell import Shell


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
    view = None
    for view in client.follow(name):
        shell.note(words.progress(view))
    if shell.json:
        shell.emit(view)
    elif view:
        shell.say(f"{view.name} serves {words.shown_model(view)} again, as revision {view.revision}")


@command.command()
@click.argument("name")
@click.pass_obj
def delete(shell: Shell, name: str) -> None:
    """Stop an endpoint's replicas and forget it."""
    DeployClient(shell.http).delete(name)
    shell.say(f"{name} is going away")
