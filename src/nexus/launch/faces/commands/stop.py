"""`nexus stop`: ask runs to stop."""

from __future__ import annotations

import click

from nexus.infra.shell import Shell
from nexus.launch.faces.client import LaunchClient
from nexus.launch.model import RUN_LIFE


@click.command()
@click.argument("runs", nargs=-1, required=True, metavar="RUN...")
@click.option("--wait", is_flag=True, help="Return when they have stopped.")
@click.pass_obj
def command(shell: Shell, runs: tuple[str, ...], wait: bool) -> None:
    """Ask each RUN to stop: TERM first, KILL after the job's grace. A run that is over stays as it is."""
    client = LaunchClient(shell.http)
    stopped = [client.stop(run) for run in runs]
    if wait:
        stopped = [list(client.follow(run.id))[-1] for run in stopped]
    if shell.json:
        shell.emit(stopped)
        return
    for run in stopped:
        over = RUN_LIFE.is_final(run.state)
        shell.say(f"{run.id}  {run.name}: {f'is {run.state}' if over else 'stops'}")
