"""`nexus why`: why a run is where it is."""

from __future__ import annotations

from collections.abc import Sequence

import click

from nexus.infra.shell import Shell
from nexus.launch.core.exits import why_it_ended
from nexus.launch.core.placement.whatif import in_words
from nexus.launch.faces.client import LaunchClient
from nexus.launch.faces.words import state_of
from nexus.launch.model import RUN_LIFE, TASK_LIFE, Run, Task, TaskState


@click.command()
@click.argument("run")
@click.pass_obj
def command(shell: Shell, run: str) -> None:
    """Say why RUN waits, fails, or is not done yet, and what to do about it."""
    client = LaunchClient(shell.http)
    found = client.run(run)
    tasks = client.tasks(found.id)
    helps = in_words(client.whatif(found.id)) if found.rejections else []
    queue = client.waiting(found.id).lines if not RUN_LIFE.is_final(found.state) else ()
    lines = explain(found, tasks, [*queue, *helps])
    if shell.json:
        shell.emit({"run": found.id, "state": found.state, "reason": found.reason, "lines": lines})
        return
    for line in lines:
        shell.say(line)


def explain(run: Run, tasks: list[Task], helps: Sequence[str] = ()) -> list[str]:
    """In words: the state, the reason, every rejection, what each task does or why it ended, and what would help."""
    stands = f"{run.name} {state_of(run)}" if RUN_LIFE.is_final(run.state) else f"{run.name} is {state_of(run)}"
    lines = [stands + (f": {run.reason}" if run.reason else "")]
    lines += [f"  {rejection}" for rejection in run.rejections]
    for task in tasks:
        if task.run_attempt != run.attempt and TASK_LIFE.is_final(task.state):
            continue
        if TASK_LIFE.is_final(task.state):
            if task.state is not TaskState.SUCCEEDED and why_it_ended(task) != run.reason:
                lines.append(f"  {task.role}[{task.index}] {why_it_ended(task)}")
        elif task.state is not TaskState.RUNNING:
            waits = "" if task.go or task.state is not TaskState.READY else "waits for the rest of its gang"
            lines.append(f"  {task.role}[{task.index}] is {task.state}: {task.detail or waits or 'no word yet'}")
    lines += [f"  {line}" for line in helps]
    if run.rejections:
        lines.append("Ask for less, join another machine (nexus agent join), or wait: it starts when one is free.")
    elif run.reason.startswith("quota:"):
        lines.append("Wait until the project holds less, or ask an owner for more: nexus quota")
    elif run.state == "failed":
        lines.append(f"Its log says more: nexus logs {run.id}")
    return lines
