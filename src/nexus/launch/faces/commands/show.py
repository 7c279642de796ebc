"""`nexus show`: everything about a run."""

from __future__ import annotations

from datetime import UTC, datetime

import click

from nexus.infra.clock import SystemClock
from nexus.infra.shell import Shell
from nexus.launch.faces.client import LaunchClient
from nexus.launch.faces.words import TASKS_HEAD, duration_of, event_line, money, state_of, task_row
from nexus.launch.model import Run

_EVENTS = 20


@click.command()
@click.argument("run")
@click.option("--job", is_flag=True, help="Print the job file as it was written, and nothing else.")
@click.pass_obj
def command(shell: Shell, run: str, job: bool) -> None:
    """Show everything about RUN: an id, the beginning of one, or a name (its newest run)."""
    client = LaunchClient(shell.http)
    found = client.run(run)
    if job:
        shell.say(found.job.rstrip("\n"))
        return
    tasks, events = client.tasks(found.id), client.run_events(found.id).events
    if shell.json:
        shell.emit({"run": found, "tasks": tasks, "events": events})
        return
    now = SystemClock().now()
    nodes = {use.node.id: use.node.name for use in client.nodes()}
    for name, value in _facts(found, now):
        shell.say(f"{name:<10}{value}")
    for line in found.rejections:
        shell.say(f"          {line}")
    shell.say()
    shell.table(TASKS_HEAD, [task_row(task, nodes, now) for task in tasks], empty="No tasks yet.")
    shell.say()
    if len(events) > _EVENTS:
        shell.say(f"... {len(events) - _EVENTS} earlier: nexus events --run {found.id}")
    for event in events[-_EVENTS:]:
        shell.say(event_line(event, stamp(event.at)))


def stamp(at: float) -> str:
    """Local time of day; the date too would not help in what just happened."""
    return datetime.fromtimestamp(at, UTC).astimezone().strftime("%H:%M:%S")


def _facts(run: Run, now: float) -> list[tuple[str, str]]:
    created = datetime.fromtimestamp(run.created, UTC).astimezone().strftime("%Y-%m-%d %H:%M:%S")
    facts = [
        ("run", f"{run.id}  {run.name}  ({run.kind})"),
        ("state", state_of(run)),
        ("why", run.reason),
        ("by", f"{run.user}, {created}"),
        ("attempt", f"{run.attempt + 1} of {run.plan.retry.max + 1}" if run.plan.retry.max else ""),
        ("duration", duration_of(run, now)),
        ("cost", money(run.cost)),
        ("tags", "  ".join(f"{name}={value}" for name, value in sorted(run.tags.items()))),
    ]
    return [(name, value) for name, value in facts if value]
