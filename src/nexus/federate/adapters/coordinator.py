"""The server's side of the rounds: open one, hear its hosts, close it when its book says so, commit it, go on.

Everything that changes lies behind one lock, and on the disk before anybody is told. A server that is killed finds in
its journal the last committed round and every update it had accepted since.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import structlog

from nexus.federate.adapters import frames
from nexus.federate.adapters.chunks import Incoming, checksum
from nexus.federate.adapters.journal import Journal
from nexus.federate.adapters.secure_round import SecureRound
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
    VERSION,
    WAIT_S,
    Join,
    Receipt,
    ReceiptState,
    UpdateHead,
    Upload,
    Welcome,
    Work,
    WorkState,
)
from nexus.kernel.clock import Clock
from nexus.kernel.errors import (
    ConflictError,
    DeniedError,
    JobError,
    LimitError,
    NexusError,
    UnavailableError,
    UsageError,
)

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
        self,
        worker: Worker,
        settings: Settings,
        journal: Journal,
        clock: Clock,
        each: Callable[[Round], None],
        speaks_for: Callable[[int], tuple[int, ...] | None] = lambda _: None,
    ) -> None:
        """`each` hears of every committed round; `speaks_for` says which clients are a host's, if that is known.

        Raises ConflictError if the journal is another run's.
        """
        self._speaks_for = speaks_for
        self._worker = worker
        self._settings = settings
        self._journal = journal
        self._clock = clock
        self._each = each
        state, self.rounds = journal.load()
        if state is None:
            state = worker.begin()
            journal.commit(state)
        self.state: State = state
        self._lengths = worker.algorithm.sends(state)
        self._packing = worker.algorithm.packing(state)
        self.update_max_b = most_bytes(self._lengths, self._packing) + HEAD_MAX_B
        self._book: Book | None = None
        self._sum: SecureRound | None = None  # instead of a book, where updates are not to be seen
        self._vouchers: dict[int, str] = {}  # by client
        self._plan_b, self._plan_check = 0, ""
        self._incoming = Incoming(journal.folder / "incoming")
        self._hosts: dict[int, Host] = {}
        self._end: Work | None = None
        self._lock = asyncio.Lock()
        self._news = asyncio.Condition()
        self._uploading: dict[int, asyncio.Lock] = defaultdict(asyncio.Lock)  # by client

    # ------------------------------------------------------------------ the loop

    async def run(self) -> State:
        """Every round that is not committed yet. Raises JobError when one fails, OSError when the disk does."""
        try:
            while self.state.number < self._settings.rounds and not self._over():
                await (self._round() if self._worker.composition.secure is None else self._secure_round())
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
        await self._commit(state, record, began)

    async def _secure_round(self) -> None:
        """A round that ends with a sum of updates that nobody saw. Raises JobError when it does not."""
        started, began = self._clock.now(), self._clock.monotonic()
        sums = await asyncio.to_thread(self._open_sum)
        self._sum = sums
        try:
            while not sums.done:
                await self._tell()
                await self._wait(lambda: not sums.missing, _LOOK_S)
                async with self._lock:
                    await asyncio.to_thread(sums.close_phase, self._clock.monotonic(), self._lost())
        finally:
            self._sum = None
        composition, turns = self._worker.composition, sums.turns(self._lost())
        state, record = await asyncio.to_thread(
            close_round, composition, self.state, sums.total(), turns, started=started
        )
        await self._commit(state, record, began)

    async def _commit(self, state: State, record: Round, began: float) -> None:
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
        self._plan_check = checksum(self._journal.plan_path(number))
        self._incoming.clean(number)
        book = Book(number, model, cohort, settings, self._clock.monotonic())
        for head, size in self._journal.accepted(number):
            if book.answer(head) is None:
                book.accept(head, bytes_down=self._plan_b, bytes_up=size)
        return book

    def _open_sum(self) -> SecureRound:
        """The next round's sum; what was left of one before a restart is forgotten."""
        number, model = self.state.number + 1, digest(self.state.model)
        composition = self._worker.composition
        self._plan_b = self._journal.open_round(number, composition.algorithm.plan(self.state), model)
        self._plan_check = checksum(self._journal.plan_path(number))
        cohort = composition.cohort(self.state, self.rounds)
        now = self._clock.monotonic()
        return SecureRound(composition, self.state, cohort, model, plan_b=self._plan_b, now=now)

    def _close(self, book: Book, turns: list[Turn], started: float) -> tuple[State, Round]:
        came = self._stack(book) if self._worker.composition.stacks else self._fold(book)
        return close_round(self._worker.composition, self.state, came, turns, started=started)

    def _fold(self, book: Book) -> Total:
        """Sum up the accepted updates from the disk, in the cohort's order: one in memory at a time."""
        fold, accepted = OrderedFold(len(book.cohort), self._lengths), set(book.accepted)
        for position, client in enumerate(book.cohort):
            if client in accepted:
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

    def join(self, host: int, join: Join) -> Welcome:
        """A host comes, or comes back. Raises UsageError if it means another model, DeniedError for others' clients."""
        if join.version != VERSION:
            raise UsageError(
                f"this host speaks version {join.version} of the protocol, the server {VERSION}",
                hint="Server and clients need the same version of nexus.",
            )
        self._check_clients(host, join.clients)
        parameters = len(self.state.model)
        if join.parameters != parameters:
            raise UsageError(
                f"this host's model has {join.parameters} parameters, the server's {parameters}",
                hint="Server and clients must run the same file.",
            )
        self._hosts[host] = Host(join.clients, self._clock.monotonic())
        self._vouchers |= dict.fromkeys(join.clients, join.voucher)
        log.info("federate.host_joined", host=host, clients=list(join.clients))
        return Welcome(settings=self._settings)

    def _check_clients(self, host: int, clients: tuple[int, ...]) -> None:
        """Refuse a host that would speak for another's clients. Raises DeniedError."""
        own = self._speaks_for(host)
        taken = {client for other, known in self._hosts.items() if other != host for client in known.clients}
        if taken.intersection(clients) or (own is not None and not set(clients) <= set(own)):
            raise DeniedError(
                f"host {host} may not speak for all of the clients {list(clients)}",
                hint="Each client belongs to one client task, by its index.",
            )

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
        """Where the frame of the open round lies. Raises ConflictError if another is open."""
        opened = self._sum or self._book
        if opened is None or opened.number != number:
            raise ConflictError(f"round {number} is not open", hint="Ask for work again.")
        return self._journal.plan_path(number)

    @property
    def answer_max_b(self) -> int:
        """The largest message of a secure sum."""
        return self._sum.most_b if self._sum else 0

    async def question(self, host: int, number: int, attempt: int, phase: str, client: int) -> bytes:
        """What a step of the open sum asks a client. Raises ConflictError, DeniedError."""
        self._check_speaks(host, client)
        async with self._lock:
            if self._sum is None or self._sum.number != number:
                raise ConflictError(f"round {number} is not open", hint="Ask for work again.")
            return self._sum.question(attempt, phase, client)

    async def answer(self, host: int, number: int, attempt: int, phase: str, client: int, message: bytes) -> Receipt:
        """A client's answer to it. Raises ConflictError, DeniedError."""
        self._check_speaks(host, client)
        async with self._lock:
            if self._sum is None or self._sum.number != number:
                return self._closed(number)
            receipt = await asyncio.to_thread(self._sum.answer, attempt, phase, client, message)
        if receipt.state is ReceiptState.REFUSED:
            log.warning("federate.left_the_sum", number=number, client=client, phase=phase, reason=receipt.reason)
        await self._tell()
        return receipt

    def _check_speaks(self, host: int, client: int) -> None:
        """Raises ConflictError, DeniedError."""
        if client not in self._host(host).clients:
            raise DeniedError(
                f"host {host} does not speak for client {client}", hint="An update comes from its client's host."
            )

    async def receive(self, host: int, upload: Upload, offset: int, data: bytes) -> Receipt:
        """Keep a chunk of an update; judge the update once it is whole.

        Raises ConflictError, DeniedError, LimitError when it is too large, UnavailableError when the disk is full.
        """
        if upload.size > self.update_max_b or offset + len(data) > upload.size:
            raise LimitError(f"the update is larger than {self.update_max_b} bytes", hint="Is it the same model?")
        if (said := self._wants(host, upload)) is not None:
            return said
        key = (upload.number, upload.client, upload.check)
        async with self._uploading[upload.client]:
            try:
                held = await asyncio.to_thread(self._incoming.add, *key, offset, data)
            except OSError as error:
                raise _full(error) from error  # the host tries again
            if held < upload.size:
                return Receipt(state=ReceiptState.PARTIAL, held=held)
            path = self._incoming.path(*key)
            try:
                if await asyncio.to_thread(checksum, path) != upload.check:
                    log.warning("federate.damaged", number=upload.number, client=upload.client)
                    return Receipt(state=ReceiptState.PARTIAL, held=0, reason="it was damaged on its way")
                return await self._received(upload, path)
            except OSError as error:
                raise _full(error) from error
            finally:
                await asyncio.to_thread(self._incoming.drop, *key)

    def _wants(self, host: int, upload: Upload) -> Receipt | None:
        """Why no byte of an update is wanted; None: it is. Raises ConflictError, DeniedError."""
        self._check_speaks(host, upload.client)
        if self._book is None:
            return self._closed(upload.number)
        return self._book.wants(upload.number, upload.client)

    async def _received(self, upload: Upload, path: Path) -> Receipt:
        """Judge an update that lies at `path`; if it counts, the file is moved to where it is kept."""
        number, client = upload.number, upload.client
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
            return self._closed(number)
        if head is None or (head.number, head.client) != (number, client):
            return book.refuse(client, complaint or "the frame and its address name different updates")
        receipt = book.answer(head)
        if receipt is None and complaint:
            receipt = book.refuse(client, complaint)
        if receipt is not None:
            return receipt
        size = await asyncio.to_thread(frames.settle, path, self._journal.update_path(number, client))
        return book.accept(head, bytes_down=self._plan_b, bytes_up=size)

    def _closed(self, number: int) -> Receipt:
        """What an update is told while no round is open."""
        late = number <= self.state.number + 1
        state = ReceiptState.LATE if late else ReceiptState.REFUSED
        return Receipt(state=state, reason="no round is open" + (f": round {number} is over" if late else ""))

    # ------------------------------------------------------------------ who is there

    def _host(self, host: int) -> Host:
        known = self._hosts.get(host)
        if known is None:
            raise ConflictError(f"host {host} has not joined", hint="Join again: the server was started anew.")
        return known

    def _work(self, host: int) -> Work:
        if self._end is not None:
            return self._end
        book, sums = self._book, self._sum
        mine = set(self._host(host).clients)
        if sums is not None and (asked := tuple(client for client in sums.missing if client in mine)):
            return Work(
                state=WorkState.SUM,
                number=sums.number,
                clients=asked,
                model=sums.model,
                secure=sums.step(self._vouchers),
                size_b=self._plan_b,
                check=self._plan_check,
            )
        clients = tuple(client for client in book.missing if client in mine) if book else ()
        if book is None or not clients:
            return Work(state=WorkState.WAIT)
        return Work(
            state=WorkState.TRAIN,
            number=book.number,
            clients=clients,
            model=book.model,
            size_b=self._plan_b,
            check=self._plan_check,
        )

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


def _full(error: OSError) -> UnavailableError:
    """What a host is told so that it tries again."""
    return UnavailableError(
        f"the server cannot keep the update: {error.strerror}", hint="Free space on the server's disk."
    )
