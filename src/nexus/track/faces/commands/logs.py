"""`nexus logs`: what a run says."""

from __future__ import annotations

import sys
from collections.abc import Iterable

import click
import msgspec

from nexus.infra.shell import Shell
from nexus.infra.visible import visible
from nexus.track.faces.client import TrackClient
from nexus.track.model import TaskLine


@click.command()
@click.argument("run")
@click.option("-f", "--follow", is_flag=True, help="Go on until the run is over.")
@click.option("-n", "--tail", type=click.IntRange(min=0), help="Only the last N lines.")
@click.option("--task", default="", help="Only this task: worker, worker/0, or a task's id.")
@click.option("--search", default="", metavar="TEXT", help="Only lines that hold TEXT.")
@click.option("-t", "--times", is_flag=True, help="Begin lines with their time (UTC).")
@click.pass_obj
def command(shell: Shell, run: str, follow: bool, tail: int | None, task: str, search: str, times: bool) -> None:
    """Print the log of RUN (an id, the beginning of one, or a name): all its tasks' lines, merged by time.

    Lines of several tasks begin with the task's name; on a terminal, what came by standard error is red.
    """
    client = TrackClient(shell.http)
    if search:
        lines: Iterable[TaskLine] = client.search(run, search, task=task)
    elif follow:
        lines = client.follow(run, tail=tail, task=task)
    else:
        lines = client.lines(run, tail=tail, task=task)
    write = Printer(colour=shell.has_colour, times=times).print if not shell.json else _print_json
    try:
        for line in lines:
            write(line)
    except BrokenPipeError:
        sys.stderr.close()  # the reader has enough: nexus logs RUN | head
    except KeyboardInterrupt:
        shell.note("")


def _print_json(line: TaskLine) -> None:
    """One JSON document a line, so that a stream can be read as it comes."""
    sys.stdout.write(msgspec.json.encode(line).decode() + "\n")
    sys.stdout.flush()


class Printer:
    """Lines for people. A task's name is printed once there is more than one task to tell apart."""

    def __init__(self, *, colour: bool, times: bool) -> None:
        self._colour = colour
        self._times = times
        self._tasks: set[tuple[str, int]] = set()
        self._open: tuple[str, str] | None = None  # whose line is not whole yet

    def print(self, line: TaskLine) -> None:
        """Write one line, or the next piece of one."""
        who = (line.task, line.stream)
        text = visible(line.text)
        if self._open != who:
            if self._open is not None:
                sys.stdout.write("\n")
            text = self._head(line) + text
        if self._colour and line.stream != "out":
            text = f"\x1b[{'31' if line.stream == 'err' else '2'}m{text}\x1b[0m"
        sys.stdout.write(text + ("\n" if line.whole else ""))
        sys.stdout.flush()
        self._open = None if line.whole else who

    def _head(self, line: TaskLine) -> str:
        self._tasks.add((line.role, line.index))
        name = f"{line.role}/{line.index} | " if len(self._tasks) > 1 else ""
        return (_clock(line.at_ms) + " " if self._times else "") + name


def _clock(at_ms: int) -> str:
    seconds, ms = divmod(at_ms, 1000)
    minutes, second = divmod(seconds % 86_400, 60)
    return f"{minutes // 60:02d}:{minutes % 60:02d}:{second:02d}.{ms:03d}"
