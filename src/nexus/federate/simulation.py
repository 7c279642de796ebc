"""The door to simulation: a task, run here over all its clients, with nothing else to start."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch

from nexus.federate.adapters.checkpoint import Checkpoint, Keeper
from nexus.federate.adapters.ground import ground
from nexus.federate.adapters.inline import Inline
from nexus.federate.adapters.loader import load_task
from nexus.federate.adapters.pool import Pool
from nexus.federate.adapters.record import log_round, save_result
from nexus.federate.core.algorithm import State, Vectors
from nexus.federate.core.algorithms import options_of
from nexus.federate.core.chain import finished, recorded
from nexus.federate.core.schedule import Ground
from nexus.federate.core.settings import check
from nexus.federate.core.stack import Stack
from nexus.federate.core.task import Task
from nexus.federate.core.total import Array, Total
from nexus.federate.core.worker import Worker
from nexus.federate.model import Round, Settings, Turn
from nexus.infra.clock import SystemClock
from nexus.kernel.errors import UsageError

__all__ = ["Simulation", "describe", "load_task", "simulate"]


class Engine(Keeper, Protocol):
    """Whatever trains a cohort: this process, workers, a cluster."""

    def round(self, number: int, plan: Vectors, cohort: Sequence[int]) -> tuple[Total | Stack, list[Turn]]:
        """Every client's turn, and their total, which must not depend on who did the work; where there is a defence,
        the updates themselves. Raises JobError.
        """
        ...

    def close(self) -> None:
        """Stop."""
        ...


@dataclass(frozen=True)
class Simulation:
    """What came of it."""

    settings: Settings
    rounds: tuple[Round, ...]
    model: Array
    worker: Worker = field(repr=False)
    over: str = ""  # why there were no more rounds, if there were fewer than the settings say

    def save(self, folder: Path) -> dict[str, Path]:
        """Write the rounds, the final model (a safetensors state dict) and a summary; the files by name."""
        return save_result(folder, self.settings, self.rounds, self.worker.trainer, self.model)


def simulate(
    task: Task,
    settings: Settings,
    *,
    workers: int = 0,
    each: Callable[[Round], None] = lambda _: None,
    checkpoint: Path | None = None,
    resume: bool = False,
) -> Simulation:
    """Run every round; `each` hears of each as it ends. `workers` 0: one per core; 1: in this process.

    The result depends on the task and the settings (with their seed), not on `workers`. With a folder `checkpoint`,
    what is needed to go on is kept there until the end, and `resume` goes on from it: to the same bits.
    Raises UsageError, JobError; ConflictError if the checkpoint is another simulation's.
    """
    check(settings, task.clients)
    workers = min(workers or os.cpu_count() or 1, settings.cohort)
    before = torch.get_num_threads()
    torch.set_num_threads(1)  # as the workers do: another number of threads would round differently
    try:
        worker = Worker(task, settings, SystemClock())
        state = worker.begin()
        engine: Engine = Pool(worker, state, workers) if workers > 1 else Inline(worker, state)
        with closing(engine):
            place = ground(worker, task, state, engine.round)
            if checkpoint is None:
                return _rounds(place, worker, state, [], lambda record, _: each(record))
            saved = Checkpoint(checkpoint, settings, SystemClock(), resume=resume)
            keeps = worker.algorithm.keeps(state)
            state, rounds = saved.load(state, keeps, engine)

            def kept(record: Round, state: State) -> None:
                saved.note(state, rounds, bool(keeps), engine)
                each(record)

            found = _rounds(place, worker, state, rounds, kept)
            saved.remove()
            return found
    finally:
        torch.set_num_threads(before)


def describe(task: Task, settings: Settings) -> dict[str, Any]:
    """What `simulate` would do, and what it would take: two clients' turns are tried, and thrown away.

    Raises UsageError, JobError.
    """
    check(settings, task.clients)
    worker = Worker(task, settings, SystemClock())
    state = worker.begin()
    sizes = []
    for client in range(task.clients):
        worker.trainer.enter(client, 0)
        sizes.append(worker.trainer.samples)
    turns = settings.rounds * settings.cohort * 4
    lengths = worker.algorithm.keeps(state)
    kept = sum(lengths.values()) * 4 * min(task.clients, settings.rounds * settings.cohort)
    return {
        "cpu_seconds": settings.rounds * settings.cohort * _tried(worker, state, lengths, min(2, task.clients)),
        "kept_bytes": kept,
        "parameters": worker.trainer.trainable,
        "clients": task.clients,
        "samples": {"least": min(sizes), "most": max(sizes), "all": sum(sizes)},
        "options": options_of(settings.algorithm) | settings.options,
        "bytes_up": turns * sum(worker.algorithm.sends(state).values()),
        "bytes_down": turns * sum(len(vector) for vector in worker.algorithm.plan(state).values()),
    }


def _tried(worker: Worker, state: State, lengths: Mapping[str, int], clients: int) -> float:
    """Seconds for a client's turn on one core, as the first ones take it; the very first one warms up."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        plan = worker.algorithm.plan(state)
        kept = {name: np.zeros(length, np.float32) for name, length in lengths.items()}
        worker.turn(1, 0, plan, kept)
        return sum(worker.turn(1, client, plan, kept)[0].seconds for client in range(clients)) / clients
    finally:
        torch.set_num_threads(before)


def _rounds(
    place: Ground, worker: Worker, state: State, rounds: list[Round], each: Callable[[Round, State], None]
) -> Simulation:
    """Add to `rounds` what is missing of them."""
    clock, settings, why = SystemClock(), worker.settings, ""
    ends = worker.composition.schedule.run(place, state, rounds)
    while state.number < settings.rounds:
        if why := worker.algorithm.over(state):
            if not rounds:
                raise UsageError(why, hint="Not even one round can be run like that.")
            break
        started, began = clock.now(), clock.monotonic()
        ended = next(ends)
        record = recorded(worker.composition, state, ended.state, ended.turns, started=started, notes=ended.notes)
        state = ended.state
        metrics = worker.evaluate(state.model)
        rounds.append(finished(record, clock.monotonic() - began, metrics))
        log_round(rounds[-1])
        each(rounds[-1], state)
    return Simulation(settings, tuple(rounds), state.model, worker, why)
