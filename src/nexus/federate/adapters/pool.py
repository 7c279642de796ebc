"""Simulate a round's clients in forked workers, one thread each.

Forked, so that the data and the model's code are there without a copy. What is sent to every client, the sums of each
block, and what clients keep lie in shared memory; the pipes carry a few hundred bytes of JSON per block.
"""

from __future__ import annotations

import mmap
import multiprocessing
import os
import signal
import traceback
from collections.abc import Mapping, Sequence
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkProcess

import msgspec
import numpy as np
import torch

from nexus.federate.core.algorithm import State, Vectors
from nexus.federate.core.stack import Stack
from nexus.federate.core.total import BLOCKS, Array, Total, blocks
from nexus.federate.core.worker import Worker
from nexus.federate.model import Turn
from nexus.kernel.errors import JobError


class _Order(msgspec.Struct):
    """What a worker is told: sum the turns of these clients into the slot, or lay each beside the others.

    `at` is the first one's position in the cohort.
    """

    number: int
    slot: int
    clients: list[int]
    at: int


class _Answer(msgspec.Struct):
    """What it says when it is done."""

    slot: int
    turns: list[Turn] = []
    weight: float = 0.0
    error: str = ""


class Pool:
    """Implements `Engine` over `size` workers. Make it before anything in this process starts threads."""

    def __init__(self, worker: Worker, state: State, size: int) -> None:
        self._worker = worker
        algorithm = worker.algorithm
        self._plan = {name: _shared(len(vector)) for name, vector in algorithm.plan(state).items()}
        self._sends = algorithm.sends(state)
        self._slots = [{name: _shared(n) for name, n in self._sends.items()} for _ in range(BLOCKS)]
        self._stack: list[dict[str, Array]] = []  # where there is a defence: a place for each client of a cohort
        if worker.composition.stacks:
            self._slots = []
            most = worker.composition.sampler.most(state.clients, worker.settings.cohort)
            rows = {name: _shared(n * most) for name, n in self._sends.items()}
            self._stack = [
                {name: rows[name][at * n : (at + 1) * n] for name, n in self._sends.items()} for at in range(most)
            ]
        # Pages that no client has touched take no memory: thousands of clients cost what their cohorts cost.
        self._kept = {
            name: _shared(n * state.clients).reshape(state.clients, n) for name, n in algorithm.keeps(state).items()
        }
        context = multiprocessing.get_context("fork")
        self._pipes: list[Connection] = []
        self._processes: list[ForkProcess] = []
        for _ in range(size):
            ours, theirs = context.Pipe()
            process = context.Process(target=self._serve, args=(theirs, [*self._pipes, ours]), daemon=True)
            process.start()
            theirs.close()
            self._pipes.append(ours)
            self._processes.append(process)

    def round(self, number: int, plan: Vectors, cohort: Sequence[int]) -> tuple[Total | Stack, list[Turn]]:
        """Every client's turn, folded in fixed order, or stacked where there is a defence. Raises JobError."""
        for name, vector in plan.items():
            np.copyto(self._plan[name], vector)
        orders = [
            _Order(number, slot, [cohort[position] for position in block], block.start)
            for slot, block in enumerate(blocks(len(cohort)))
        ]
        answers = sorted(self._ask(orders), key=lambda answer: answer.slot)
        turns: list[Turn] = []
        if self._stack:
            turns = [turn for answer in answers for turn in answer.turns]
            weights = [self._worker.algorithm.weight(turn.samples) for turn in turns]
            return Stack(cohort, weights, self._stack[: len(cohort)]), turns
        total = Total(self._sends)
        for answer in answers:
            part = Total.of(self._slots[answer.slot], weight=answer.weight, count=len(answer.turns))
            total.merge(part)
            turns += answer.turns
        return total, turns

    def kept(self, client: int) -> Vectors:
        """What a client keeps."""
        return {name: rows[client] for name, rows in self._kept.items()}

    def restore(self, client: int, vectors: Mapping[str, Array]) -> None:
        """Let a client have kept this."""
        for name, rows in self._kept.items():
            np.copyto(rows[client], vectors[name])

    def close(self) -> None:
        """Stop the workers."""
        for pipe in self._pipes:
            pipe.close()
        for process in self._processes:
            process.join(timeout=5)
            if process.is_alive():
                process.kill()
                process.join()

    def _ask(self, orders: list[_Order]) -> list[_Answer]:
        """Give each free worker the next block until all are done."""
        waiting, answers = list(reversed(orders)), []
        busy: set[Connection] = set()
        for pipe in self._pipes:
            if waiting:
                _send(pipe, waiting.pop())
                busy.add(pipe)
        while busy:
            for ready in busy.intersection(wait(list(busy))):
                answers.append(self._hear(ready))
                if waiting:
                    _send(ready, waiting.pop())
                else:
                    busy.discard(ready)
        return answers

    def _hear(self, pipe: Connection) -> _Answer:
        try:
            answer = msgspec.json.decode(pipe.recv_bytes(), type=_Answer)
        except (EOFError, ConnectionResetError):
            raise JobError(
                "a worker of the simulation died", hint="It may have been killed for using too much memory."
            ) from None
        if answer.error:
            raise JobError(answer.error, hint="Run with --workers 1 to debug it in one process.")
        return answer

    # ------------------------------------------------------------------ in the worker's process

    def _serve(self, pipe: Connection, others: list[Connection]) -> None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends us by closing the pipe
        for other in others:
            other.close()
        torch.set_num_threads(1)
        while True:
            try:
                order = msgspec.json.decode(pipe.recv_bytes(), type=_Order)
            except EOFError:
                os._exit(0)  # not through the parent's exit handlers
            _send(pipe, self._work(order))

    def _work(self, order: _Order) -> _Answer:
        total = Total({}) if self._stack else Total(self._sends, self._slots[order.slot])
        turns: list[Turn] = []
        self._worker.expect(order.clients, order.number)
        for position, client in enumerate(order.clients, order.at):
            try:
                kept = self.kept(client)
                turn, step = self._worker.turn(order.number, client, self._plan, kept)
            except Exception as error:
                trace = traceback.format_exc(limit=-3)
                return _Answer(order.slot, error=f"client {client} failed in round {order.number}: {error}\n{trace}")
            update = self._worker.algorithm.received(self._plan, step.send)
            if self._stack:
                _store(self._stack[position], update)
            else:
                total.absorb(update, self._worker.algorithm.weight(turn.samples))
            _store(kept, step.keep)
            turns.append(turn)
        return _Answer(order.slot, turns, total.weight)


def _store(places: Mapping[str, Array], values: Vectors) -> None:
    for name, value in values.items():
        np.copyto(places[name], value)


def _send(pipe: Connection, message: msgspec.Struct) -> None:
    pipe.send_bytes(msgspec.json.encode(message))


def _shared(length: int) -> Array:
    """Zeros that this process and those forked from it share."""
    return np.frombuffer(mmap.mmap(-1, max(length, 1) * 4), np.float32, count=length)
