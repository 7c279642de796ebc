"""`nexus nodes`: machines, and what is held of them."""

from __future__ import annotations

import click

from nexus.infra.shell import Shell
from nexus.launch.faces.client import LaunchClient
from nexus.launch.faces.words import NODES_HEAD, node_row
from nexus.launch.model import Node


@click.group(invoke_without_command=True)
@click.pass_context
def command(context: click.Context) -> None:
    """List nodes; drain, share or remove one."""
    if context.invoked_subcommand is not None:
        return
    shell: Shell = context.obj
    found = LaunchClient(shell.http).nodes()
    if shell.json:
        shell.emit(found)
        return
    empty = "No nodes. Start one here with `nexus up`, or join a machine with `nexus agent join`."
    shell.table(NODES_HEAD, [node_row(use) for use in found], empty=empty)


@command.command()
@click.argument("node")
@click.option("--off", is_flag=True, help="Give it tasks again.")
@click.pass_obj
def drain(shell: Shell, node: str, off: bool) -> None:
    """Give NODE no new tasks; those that it has go on."""
    _tell(shell, LaunchClient(shell.http).drain(node, drain=not off))


@command.command()
@click.argument("node")
@click.option("--private", is_flag=True, help="Only for runs of its own project again; those of others that run go on.")
@click.pass_obj
def share(shell: Shell, node: str, private: bool) -> None:
    """Let runs of every project use NODE. For admins of the project that it belongs to."""
    _tell(shell, LaunchClient(shell.http).share(node, shared=not private), "private" if private else "shared")


@command.command()
@click.argument("node")
@click.pass_obj
def remove(shell: Shell, node: str) -> None:
    """Forget NODE. It must hold no tasks; its token stops working."""
    _tell(shell, LaunchClient(shell.http).remove(node), "removed")


def _tell(shell: Shell, node: Node, word: str = "") -> None:
    if shell.json:
        shell.emit(node)
    else:
        shell.say(f"{node.name}: {word or node.state}")
