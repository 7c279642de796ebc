"""`nexus runs`: a table of runs."""

from __future__ import annotations

import time

import click

from nexus.infra.clock import SystemClock
from nexus.infra.shell import Shell
from nexus.launch.faces.client import LaunchClient
from nexus.launch.faces.views import RunPage
from nexus.launch.faces.words import RUNS_HEAD, places, run_row
from nexus.launch.model import RUN_LIFE, RunState

_REFRESH_S = 2.0


@click.command()
@click.option("--state", type=click.Choice([str(state) for state in RunState]), help="Only runs in this state.")
@click.option("--kind", help="Only runs of this kind, such as train.")
@click.option("--name", help="Only runs of this name.")
@click.option("-n", "--limit", type=click.IntRange(1, 1000), default=20, show_default=True, help="At most so many.")
@click.option("--watch", is_flag=True, help="Show it anew while something runs.")
@click.pass_obj
def command(shell: Shell, state: str | None, kind: str | None, name: str | None, limit: int, watch: bool) -> None:
    """List runs, newest first."""
    client, clock = LaunchClient(shell.http), SystemClock()
    while True:
        page = client.page(limit=limit, state=state, kind=kind, name=name)
        if shell.json:
            shell.emit(page.runs)
            return
        if watch and shell.is_tty:
            click.clear()
        _show(shell, page, clock.now())
        if not watch or all(RUN_LIFE.is_final(run.state) for run in page.runs):
            return
        time.sleep(_REFRESH_S)


def _show(shell: Shell, page: RunPage, now: float) -> None:
    rows = [run_row(run, places(run.nodes), now) for run in page.runs]
    shell.table(RUNS_HEAD, rows, empty="No runs yet. Start one: nexus launch -- python train.py")
    for run in page.runs:
        if run.state is RunState.QUEUED and run.reason:
            shell.note(f"{run.name} waits: {run.reason}")
