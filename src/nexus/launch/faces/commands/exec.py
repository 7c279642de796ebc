"""`nexus exec`: run a command inside a running task."""

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


@click.command()
@click.option("-i", "--interactive", is_flag=True, help="Pass standard input on, also from a terminal.")
@click.option("-t", "--tty", is_flag=True, help="Give it a terminal of its own. Together: -it.")
@click.argument("target", metavar="RUN[/ROLE.INDEX]")
@click.argument("words", nargs=-1, type=click.UNPROCESSED, metavar="-- COMMAND...")
@click.pass_obj
def command(shell: Shell, interactive: bool, tty: bool, target: str, words: tuple[str, ...]) -> None:
    """Run COMMAND in a running task: in its environment, workspace and container. Its exit code becomes ours.

    Without a role and index, in the first task that runs. Piped input is passed on; a terminal's with -i. When this
    side ends, the command gets HUP, and is killed soon after.
    """
    if not words:
        raise UsageError(
            "there is no command to run", hint=f"nexus exec {target} -- COMMAND; a shell: nexus ssh {target}"
        )
    run, role, index = read_target(target)
    rows, columns = window()
    request = CallRequest(
        kind=CallKind.EXEC,
        role=role,
        index=index,
        argv=words,
        tty=tty,
        rows=rows,
        columns=columns,
        term=os.environ.get("TERM", ""),
    )
    call = LaunchClient(shell.http).call(run, request)
    with_input = interactive or not sys.stdin.isatty()
    sys.exit(run_here(shell.http, call, tty=tty, with_input=with_input))
