"""What a run's machines do before the job's own first word: one line on a terminal, which goes when the job runs."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from nexus.infra.shell import Shell

if TYPE_CHECKING:
    from rich.status import Status

    from nexus.launch.faces.client import LaunchClient
    from nexus.launch.model import Run, Task

_LOOK_S = 0.3


@contextmanager
def shown_preparing(shell: Shell, client: LaunchClient, run: Run) -> Iterator[None]:
    """Keeps the line until the run runs, in a thread of its own; lines of the log appear above it."""
    if not shell.has_colour or shell.json:
        yield
        return
    from rich.console import Console

    over = threading.Event()
    with Console(stderr=True).status(f"{run.name}: waiting for its machine", spinner="dots") as status:
        looking = threading.Thread(target=_look, args=(client, run, status, over), daemon=True)
        looking.start()
        try:
            yield
        finally:
            over.set()
            looking.join(2 * _LOOK_S)


def _look(client: LaunchClient, run: Run, status: Status, over: threading.Event) -> None:
    from nexus.kernel.errors import NexusError
    from nexus.launch.model import RunState

    while not over.wait(_LOOK_S):
        try:
            now = client.run(run.id)
            if now.state not in {RunState.QUEUED, RunState.STARTING}:
                break
            status.update(f"{run.name}: {in_words(client.tasks(run.id))}")
        except NexusError:
            continue
    status.stop()


def in_words(tasks: Sequence[Task]) -> str:
    """What the tasks do that do not run yet, each thing once."""
    from nexus.launch.model import TaskState

    before = [task for task in tasks if task.state in {TaskState.LEASED, TaskState.PREPARING, TaskState.READY}]
    said = list(dict.fromkeys(task.detail or str(task.state) for task in before))
    return ", ".join(said[:3]) or "starting"
