"""`nexus restart`: a new run of the same plan."""

from __future__ import annotations

import click

from nexus.infra.shell import Shell
from nexus.launch.faces.client import LaunchClient


@click.command()
@click.argument("run")
@click.pass_obj
def command(shell: Shell, run: str) -> None:
    """Start a new run of the plan of RUN, with the same workspace."""
    again = LaunchClient(shell.http).restart(run)
    if shell.json:
        shell.emit(again)
        return
    shell.say(again.id)
    shell.note(f"follow it: nexus logs -f {again.id}")
