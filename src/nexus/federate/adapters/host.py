"""A host's side of the rounds: ask for work, train its clients one after another, send what changed."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from secrets import token_bytes

import numpy as np
import structlog

from nexus.federate.adapters import frames
from nexus.federate.adapters.http_client import Line
from nexus.federate.adapters.secure_host import SecureHost
from nexus.federate.adapters.vouching import Vouching
from nexus.federate.core.algorithm import Vectors
from nexus.federate.core.secure.primitives import Words
from nexus.federate.core.task import Task
from nexus.federate.core.total import Array
from nexus.federate.core.worker import Worker
from nexus.federate.model import Settings
from nexus.federate.protocol import Join, PlanHead, ReceiptState, UpdateHead, Work, WorkState
from nexus.kernel.clock import Clock
from nexus.kernel.errors import ConflictError, DeniedError, JobError, NexusError

log = structlog.get_logger()

PATIENCE_S = 300.0  # how long a host looks for its server


@dataclass(frozen=True, slots=True)
class _KeptHead:
    """Which client's memory a file is, and after which round."""

    client: int
    number: int


class HostProcess:
    """Speaks for `clients`. `folder` keeps what they remember between rounds, and outlives a restart."""

    def __init__(
        self,
        task: Task,
        settings: Settings,
        clients: tuple[int, ...],
        folder: Path,
        clock: Clock,
        vouching: Vouching | None = None,
    ) -> None:
        """`vouching` is for secure sums: who signs what."""
        folder.mkdir(parents=True, exist_ok=True)
        self._own, self._vouching = settings, vouching
        self._task = task
        self._settings = settings
        self._clients = clients
        self._folder = folder
        self._clock = clock
        self._sums: SecureHost | None = None
        self._worker = Worker(task, settings, clock, token_bytes)
        self._learn()
        self._plan: tuple[str, Vectors] = ("", {})

    def run(self, dial: Callable[[float], Line]) -> None:
        """Take part until the server says that all is done; `dial` makes a line with that much patience in seconds.

        Raises JobError when the run failed, UnavailableError when patience ended, NexusError.
        """
        line = dial(PATIENCE_S)
        self._join(line)
        stop = threading.Event()
        beat = threading.Thread(target=self._beat, args=(dial(0.0), stop), daemon=True)
        beat.start()
        try:
            while self._step(line):
                pass
        finally:
            stop.set()
            beat.join()
            line.close()

    def _step(self, line: Line) -> bool:
        """Do what there is to do now; False when everything is done."""
        try:
            work = line.work()
        except ConflictError:
            self._join(line)
            return True
        if work.state is WorkState.FAILED:
            raise JobError(work.reason, hint="Look at the log of the run's server task.")
        if work.state is WorkState.TRAIN:
            self._train(line, work)
        if work.state is WorkState.SUM:
            self._take_part(line, work)
        return work.state is not WorkState.DONE

    def _join(self, line: Line) -> None:
        """Say who this is; the server's settings replace ours."""
        parameters = len(self._worker.trainer.initial)
        voucher = self._vouching.voucher if self._vouching else ""
        welcome = line.join(Join(clients=self._clients, parameters=parameters, voucher=voucher))
        if welcome.settings.secure_aggregation != self._own.secure_aggregation:
            raise DeniedError(
                "the server's secure_aggregation is not what this host's own settings say",
                hint="Start server and clients with the same settings: no host shows more than it meant to.",
            )
        if welcome.settings != self._settings:
            self._settings = welcome.settings
            self._worker = Worker(self._task, welcome.settings, self._clock, token_bytes)
            self._learn()
        log.info("federate.joined", clients=list(self._clients), algorithm=self._settings.algorithm)

    def _learn(self) -> None:
        """What the algorithm keeps, and how its updates travel."""
        state = self._worker.begin()
        self._keeps = self._worker.algorithm.keeps(state)
        self._packing = self._worker.algorithm.packing(state)
        secure, vouching = self._worker.composition.secure, self._vouching
        if secure is not None and vouching is not None:
            least = ceil(self._own.quorum * self._own.cohort)
            self._sums = SecureHost(secure, vouching.private, vouching.known, least=least)
        self._pending: dict[int, Vectors] = {}  # by client: what it will remember if its update gets into the sum

    def _take_part(self, line: Line, work: Work) -> None:
        """Take one step of a secure sum for each client that is asked."""
        step, state = work.secure, self._worker.begin()
        if step is None or self._sums is None:
            raise JobError("the server asks for a secure sum that cannot be", hint="Start it as the clients are.")

        def words(client: int) -> Words:
            plan = self._fetch(line, work)
            turn, done = self._worker.turn(work.number, client, plan, self._kept(client))
            self._pending[client] = {name: vector.copy() for name, vector in done.keep.items()}
            weight = self._worker.algorithm.weight(turn.samples)
            return self._worker.composition.coding(state, len(step.members)).encode(done.send, weight)

        try:
            counted = self._sums.work(
                work,
                lambda members: self._worker.composition.coding(state, members),
                words,
                lambda phase, client: line.question(work.number, step.attempt, phase, client),
                lambda phase, client, said: line.answer(work.number, step.attempt, phase, client, said),
            )
        except ConflictError:
            return  # the phase was closed meanwhile
        for client in counted:
            self._keep(client, work.number, self._pending.pop(client, {}))

    def _train(self, line: Line, work: Work) -> None:
        try:
            plan = self._fetch(line, work)
        except ConflictError:
            return  # the round was closed meanwhile
        for client in work.clients:
            kept = self._kept(client)
            turn, step = self._worker.turn(work.number, client, plan, kept)
            head = UpdateHead(
                number=work.number,
                client=client,
                model=work.model,
                samples=turn.samples,
                seconds=turn.seconds,
                loss=turn.loss,
            )
            path = self._folder / "update.safetensors"
            path.write_bytes(frames.pack(step.send, head, self._packing))
            try:
                receipt = line.send_update(work.number, client, path)
            except ConflictError:  # the server was started anew: what it holds of the update is not lost
                self._join(line)
                receipt = line.send_update(work.number, client, path)
            if receipt.counted:
                self._keep(client, work.number, step.keep)
            else:
                log.warning("federate.not_counted", client=client, number=work.number, reason=receipt.reason)
            if receipt.state is ReceiptState.LATE:
                return

    def _fetch(self, line: Line, work: Work) -> Vectors:
        """The round's plan; fetched once. Raises ConflictError when the round is closed."""
        if self._plan[0] == work.model:
            return self._plan[1]
        path = self._folder / "plan.safetensors"
        line.fetch_plan(work, path)
        head = frames.read_head(path, PlanHead)
        if (head.number, head.model) != (work.number, work.model):
            raise ConflictError("another round was opened meanwhile")
        state = self._worker.begin()
        lengths = {name: len(vector) for name, vector in self._worker.algorithm.plan(state).items()}
        self._plan = (work.model, frames.read(path, lengths))
        return self._plan[1]

    # ------------------------------------------------------------------ what clients remember

    def _kept(self, client: int) -> dict[str, Array]:
        path = self._folder / f"kept-{client}.safetensors"
        if self._keeps and path.exists():
            return frames.read(path, self._keeps)
        return {name: np.zeros(length, np.float32) for name, length in self._keeps.items()}

    def _keep(self, client: int, number: int, vectors: Vectors) -> None:
        """Remember what counted. A crash just before this leaves an older memory, which is stale, not wrong."""
        if vectors:
            head = _KeptHead(client, number)
            frames.write(self._folder / f"kept-{client}.safetensors", frames.pack(vectors, head))

    # ------------------------------------------------------------------ while it trains

    def _beat(self, line: Line, stop: threading.Event) -> None:
        """Tell the server that this host is there, also when it is busy for long."""
        while not stop.wait(self._settings.lost_after_s / 5):
            try:
                line.alive()
            except NexusError as error:
                log.debug("federate.beat_failed", error=error.message)
        line.close()
