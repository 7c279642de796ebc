"""The door to the table of attacks against defences: many simulations side by side, each kept as soon as it ends."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from multiprocessing import get_context
from multiprocessing.connection import wait
from multiprocessing.context import ForkProcess
from pathlib import Path
from typing import cast

import msgspec
import torch

from nexus.federate.core.grid import Cell, Found, key
from nexus.federate.core.settings import check
from nexus.federate.core.task import Task
from nexus.federate.model import Settings
from nexus.federate.simulation import load_task, simulate
from nexus.kernel.errors import JobError, NexusError

__all__ = ["load_task", "measure"]


def measure(
    task: Task,
    source: bytes,
    settings: Settings,
    wanted: Sequence[Cell],
    folder: Path,
    *,
    workers: int = 0,
    each: Callable[[Found], None] = lambda _: None,
) -> list[Found]:
    """Every cell's result, in the order of `wanted`; those that `folder` has from before are not run again.

    `source` is the task's file. Raises UsageError for a cell that cannot be run, JobError when a process dies.
    """
    for cell in wanted:
        check(cell.settings(settings), task.clients)
    folder.mkdir(parents=True, exist_ok=True)
    paths = {cell: folder / f"{key(source, cell.settings(settings))}.json" for cell in wanted}
    for cell in wanted:
        if paths[cell].exists():
            each(_read(paths[cell]))
    _run_all(
        [cell for cell in wanted if not paths[cell].exists()],
        lambda cell: _one(task, cell, settings, paths[cell]),
        lambda cell: each(_read(paths[cell])),
        workers or os.cpu_count() or 1,
    )
    return [_read(paths[cell]) for cell in wanted]


def _run_all(waiting: list[Cell], run: Callable[[Cell], None], done: Callable[[Cell], None], size: int) -> None:
    """Each in a forked process of its own, `size` at once. Raises JobError."""
    context = get_context("fork")
    running: dict[int, tuple[ForkProcess, Cell]] = {}
    left = list(reversed(waiting))
    try:
        while left or running:
            while left and len(running) < size:
                cell = left.pop()
                process = context.Process(target=run, args=(cell,), daemon=True)
                process.start()
                running[process.sentinel] = (process, cell)
            for ready in wait(list(running)):
                process, cell = running.pop(cast("int", ready))
                process.join()
                if process.exitcode:
                    raise JobError(
                        f"{cell.attack} against {cell.defence} died with exit code {process.exitcode}",
                        hint="What is done is kept: start it again, perhaps with fewer --workers.",
                    )
                done(cell)
    finally:
        for process, _ in running.values():
            process.kill()
            process.join()


def _one(task: Task, cell: Cell, settings: Settings, path: Path) -> None:
    torch.set_num_threads(1)
    began = time.monotonic()
    try:
        result = simulate(task, cell.settings(settings), workers=1)
        found = Found(cell, result.rounds[-1].metrics, time.monotonic() - began)
    except NexusError as error:  # a model that an attack has driven to infinity is a result, too
        found = Found(cell, {}, time.monotonic() - began, str(error))
    part = path.with_suffix(".part")
    part.write_bytes(msgspec.json.encode(found))
    part.replace(path)


def _read(path: Path) -> Found:
    return msgspec.json.decode(path.read_bytes(), type=Found)
