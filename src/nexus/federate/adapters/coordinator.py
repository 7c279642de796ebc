"""The server's side of the rounds: open one, hear its hosts, close it when its book says so, commit it, go on.

Everything that changes lies behind one lock, and on the disk before anybody is told. A server that is killed finds in
its journal the last committed round and every update it had accepted since.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import structlog

from nexus.federate.adapters import frames
from nexus.federate.adapters.journal import Journal
from nexus.federate.core.algorithm import State, Vectors
from nexus.federate.core.book import Book, Verdict
from nexus.federate.core.chain import close_round, digest, finished
from nexus.federate.core.packing import most_bytes
from nexus.federate.core.stack import Stack
from nexus.federate.core.total import OrderedFold, Total
from nexus.federate.core.worker import Worker
from nexus.federate.model import Round, Settings, Turn
from nexus.federate.protocol import (
    HEAD_MAX_B,
    WAIT_S,
    Join,
    Receipt,
    ReceiptState,
    UpdateHead,
    Welcome,
    Work,
    WorkState,
)
from nexus.kernel.clock import Clock
from nexus.kernel.errors import ConflictError, JobError, NexusError, UnavailableError, UsageError

log = structlog.get_logger()

_LOOK_S = 0.5  # how often an open round looks at its deadline and its hosts


@dataclass
class Host:
    """A process that speaks for some clients."""

    clients: tuple[int, ...]
    heard: float  # monotonic seconds
    told_end: bool = False


class Coordinator:
    """The rounds of one run. Its methods are called in one event loop."""

    def __init__(
        self, worker: Worker, settings: Settings, journal: Journal, clock: Clock, each: Callable[[Round], None]
    ) -> None:
        """`each` hears of every committed round. Raises ConflictError if the journal is another run's."""
        self._worker = worker
        self._settings = settings
        self._journal = journal
        self._clock = clock
        self._each = each
        state, self.rounds = journal.load()
        if state is None:
            state = worker.begin()
            journal.commit(state, None)
        self.state: State = state
        self._lengths = worker.algorithm.sends(state)
        self._packing = worker.algorithm.packing(state)
        self.update_max_b = most_bytes(self._lengths, self._packing) + HEAD_MAX_B
        self._book: Book | None = None
        self._plan_b = 0
        self._hosts: dict[int, Host] = {}
        self._end: Work | None = None
        self._lock = asyncio.Lock()
        self._news = asyncio.Condition()
        self._uploads = 0

    # ------------------------------------------------------------------ the loop

    async def run(self) -> State:
        """Every round that is not committed yet. Raises JobError when one fails, OSError when the disk does."""
        try:
            while self.state.number < self._settings.rounds and not self._over():
                await self._round()
        except (NexusError, OSError) as error:
            await self._finish(Work(state=WorkState.FAILED, reason=str(error)))
            raise
        await self._finish(Work(state=WorkState.DONE))
        return self.state

    async def _round(self) -> None:
        started, began = self._clock.now(), self._clock.monotonic()
        book = await asyncio.to_thread(self._open)
        self._book = book
        await self._tell()
        while True:
            await self._wait(lambda: not book.missing, _LOOK_S)
            async with self._lock:
                verdict, reason = book.verdict(self._clock.monotonic(), self._lost())
                if verdict is not Verdict.WAIT:
                    self._book = None  # nothing is accepted from here on
                    break
        if verdict is Verdict.FAIL:
            raise JobError(reason, hint="See the clients' logs; quorum and deadline_s say how much is waited for.")
        turns = book.all_turns(dict.fromkeys(self._lost(), "its host went silent"))
        state, record = await asyncio.to_thread(self._close, book, turns, started)
        metrics = await asyncio.to_thread(self._worker.evaluate, state.model)
        record = finished(record, self._clock.monotonic() - began, metrics)
        await asyncio.to_thread(self._journal.commit, state, record)
        self.state = state
        self.rounds.append(record)
        await asyncio.to_thread(self._each, record)

    def _over(self) -> bool:
        """Whether the algorithm has no more rounds to give. Raises UsageError if it had none."""
        why = self._worker.algorithm.over(self.state)
        if why and not self.rounds:
            raise UsageError(why, hint="Not even one round can be run like that.")
        if why:
            log.warning("federate.over", reason=why)
        return bool(why)

    def _open(self) -> Book:
        """The next round, with the updates that were accepted before a restart."""
        state, settings = self.state, self._settings
        number = state.number + 1
        cohort = self._worker.composition.cohort(state, self.rounds)
        model = digest(state.model)
        self._plan_b = self._journal.open_round(number, self._worker.algorithm.plan(state), model)
        book = Book(number, model, cohort, settings, self._clock.monotonic())
        for head, size in self._journal.accepted(number):
            if book.answer(head) is None:
                book.accept(head, bytes_down=self._plan_b, bytes_up=size)
        return book

    def _close(self, book: Book, turns: list[Turn], started: float) -> tuple[State, Round]:
        came = self._stack(book) if self._worker.composition.stacks else self._fold(book)
        return close_round(self._worker.composition, self.state, came, turns, started=started)

    def _fold(self, book: Book) -> Total:
        """Sum up the accepted updates from the disk, in the cohort's order: one in memory at a time."""
        fold = OrderedFold(len(book.cohort), self._lengths)
        for position, client in enumerate(book.cohort):
            if client in book.accepted:
                fold.add(position, self._update(book, client), self._weight(book, client))
        return fold.finish()

    def _stack(self, book: Book) -> Stack:
        """The accepted updates beside each other; those that travel as they are stay on the disk, mapped."""
        clients = book.accepted
        weights = [self._weight(book, client) for client in clients]
        return Stack(clients, weights, [self._update(book, client) for client in clients])

    def _update(self, book: Book, client: int) -> Vectors:
        update = frames.read(self._journal.update_path(book.number, client), self._lengths, self._packing)
        return self._worker.algorithm.received(self._worker.algorithm.plan(self.state), update)

    def _weight(self, book: Book, client: int) -> float:
        return self._worker.algorithm.weight(book.turns[client].samples)

    async def _finish(self, work: Work) -> None:
        """Tell every host that is there, for a while; those that are not will find nobody, which says the same."""
        self._end = work
        await self._tell()
        lost = self._settings.lost_after_s
        await self._wait(lambda: all(host.told_end for host in self._hosts.values()), min(lost, WAIT_S))

    # ------------------------------------------------------------------ what hosts say

    def join(self, join: Join) -> Welcome:
        """A host comes, or comes back. Raises UsageError if it means another model."""
        parameters = len(self.state.model)
        if join.parameters != parameters:
            raise UsageError(
                f"this host's model has {join.parameters} parameters, the server's {parameters}",
                hint="Server and clients must run the same file.",
            )
        self._hosts[join.host] = Host(join.clients, self._clock.monotonic())
        log.info("federate.host_joined", host=join.host, clients=list(join.clients))
        return Welcome(settings=self._settings)

    def alive(self, host: int) -> None:
        """A host is busy. Raises ConflictError if it has not joined this server."""
        self._host(host).heard = self._clock.monotonic()

    async def work(self, host: int) -> Work:
        """What the host should do; waits for something. Raises ConflictError if it has not joined this server."""
        self.alive(host)
        wait = min(WAIT_S, self._settings.lost_after_s / 3)
        await self._wait(lambda: self._work(host).state is not WorkState.WAIT, wait)
        self.alive(host)
        work = self._work(host)
        if work is self._end:
            self._hosts[host].told_end = True
            await self._tell()
        return work

    def plan_path(self, number: int) -> Path:
        """The frame of the open round. Raises ConflictError if another is open."""
        if self._book is None or self._book.number != number:
            raise ConflictError(f"round {number} is not open", hint="Ask for work again.")
        return self._journal.plan_path(number)

    def upload_path(self) -> Path:
        """A place for a body to be written to before it is judged."""
        self._uploads += 1
        folder = self._journal.folder / "incoming"
        folder.mkdir(exist_ok=True)
        return folder / f"{self._uploads}.part"

    async def receive(self, number: int, client: int, path: Path) -> Receipt:
        """Judge an update that lies at `path`; if it counts, the file is moved to where it is kept."""
        head, complaint = await asyncio.to_thread(self._inspect, path)
        async with self._lock:
            receipt = await self._judge(number, client, path, head, complaint)
        if receipt.state is ReceiptState.REFUSED:
            log.warning("federate.update_refused", number=number, client=client, reason=receipt.reason)
        await self._tell()
        return receipt

    def _inspect(self, path: Path) -> tuple[UpdateHead | None, str]:
        try:
            head = frames.read_head(path, UpdateHead)
        except UsageError as error:
            return None, error.message
        try:
            frames.read(path, self._lengths, self._packing)
        except UsageError as error:
            return head, error.message
        return head, ""

    async def _judge(self, number: int, client: int, path: Path, head: UpdateHead | None, complaint: str) -> Receipt:
        book = self._book
        if book is None:
            late = number <= self.state.number + 1
            state = ReceiptState.LATE if late else ReceiptState.REFUSED
            return Receipt(state=state, reason="no round is open" + (f": round {number} is over" if late else ""))
        if head is None or (head.number, head.client) != (number, client):
            return book.refuse(client, complaint or "the frame and its address name different updates")
        receipt = book.answer(head)
        if receipt is None and complaint:
            receipt = book.refuse(client, complaint)
        if receipt is not None:
            return receipt
        try:
            size = await asyncio.to_thread(frames.settle, path, self._journal.update_path(number, client))
        except OSError as error:
            raise UnavailableError(
                f"the server cannot keep the update: {error.strerror}", hint="Free space on the server's disk."
            ) from error  # the host tries again
        return book.accept(head, bytes_down=self._plan_b, bytes_up=size)

    # ------------------------------------------------------------------ who is there

    def _host(self, host: int) -> Host:
        known = self._hosts.get(host)
        if known is None:
            raise ConflictError(f"host {host} has not joined", hint="Join again: the server was started anew.")
        return known

    def _work(self, host: int) -> Work:
        if self._end is not None:
            return self._end
        book = self._book
        mine = set(self._host(host).clients)
        clients = tuple(client for client in book.missing if client in mine) if book else ()
        if book is None or not clients:
            return Work(state=WorkState.WAIT)
        return Work(state=WorkState.TRAIN, number=book.number, clients=clients, model=book.model)

    def _lost(self) -> set[int]:
        """The clients of hosts that have gone silent."""
        now = self._clock.monotonic()
        silent = [h for h in self._hosts.values() if now - h.heard > self._settings.lost_after_s]
        return {client for host in silent for client in host.clients}

    async def _tell(self) -> None:
        async with self._news:
            self._news.notify_all()

    async def _wait(self, ready: Callable[[], bool], seconds: float) -> None:
        async with self._news:
            try:
                await asyncio.wait_for(self._news.wait_for(ready), seconds)
            except TimeoutError:
                return
