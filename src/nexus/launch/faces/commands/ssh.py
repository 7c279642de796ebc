"""`nexus ssh`: a shell in a running task, or on a node whose owner allows it."""

from __future__ import annotations

import os
import sys

import click

from nexus.infra.shell import Shell
from nexus.kernel.errors import UsageError
from nexus.launch.calls import CallKind, CallRequest
from nexus.launch.faces.calling import read_target
from nexus.launch.faces.client import LaunchClient
from nexus.launch.faces.terminal import run_here, window

# bash where there is one. Not as a login shell: /etc/profile would put the task's PATH, and so its Python, aside.
_SHELL = ("/bin/sh", "-c", 'exec "$(command -v bash || echo sh)"')


@click.command()
@click.argument("target", metavar="RUN[/ROLE.INDEX]", required=False)
@click.option("--node", metavar="NAME", help="On the machine itself, for admins, if it joined with --allow-shell.")
@click.pass_obj
def command(shell: Shell, target: str | None, node: str | None) -> None:
    """Open a shell in a running task, in its environment and workspace. The same as: nexus exec -it RUN -- bash.

    No SSH server is needed there: the bytes go through the Nexus server, to which the task's agent dials out.
    """
    if (target is None) == (node is None):
        raise UsageError("name a run, or a node", hint="nexus ssh RUN, or: nexus ssh --node NAME")
    client, tty = LaunchClient(shell.http), sys.stdin.isatty()
    run, role, index = read_target(target) if target else ("", "", None)
    rows, columns = window()
    request = CallRequest(
        kind=CallKind.EXEC,
        role=role,
        index=index,
        argv=_SHELL,
        tty=tty,
        rows=rows,
        columns=columns,
        term=os.environ.get("TERM", ""),
    )
    call = client.call_node(node, request) if node else client.call(run, request)
    sys.exit(run_here(shell.http, call, tty=tty, with_input=True))
