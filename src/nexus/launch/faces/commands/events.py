"""`nexus events`: what happened."""

from __future__ import annotations

import time

import click

from nexus.infra.shell import Shell
from nexus.launch.faces.client import LaunchClient
from nexus.launch.faces.commands.show import stamp
from nexus.launch.faces.words import event_line

_REFRESH_S = 1.0


@click.command()
@click.option("--run", help="Only of this run.")
@click.option("-f", "--follow", is_flag=True, help="Go on as things happen.")
@click.option("-n", "--limit", type=click.IntRange(1, 1000), default=50, show_default=True, help="At most so many.")
@click.pass_obj
def command(shell: Shell, run: str | None, follow: bool, limit: int) -> None:
    """Show what happened in the project, oldest first."""
    client = LaunchClient(shell.http)
    subject = client.run(run).id if run else None
    page = client.events(subject=subject, newest=True, limit=limit)
    found, last = page.events[::-1], page.last
    while True:
        if shell.json:
            shell.emit(found)
        else:
            for event in found:
                shell.say(event_line(event, stamp(event.at)))
        if not follow:
            return
        time.sleep(_REFRESH_S)
        page = client.events(after=last, subject=subject, limit=1000)
        found, last = page.events, page.last
