"""The audit trail: what happened, by whom, and proof that nobody has changed the record since."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from nexus.access.model import DEFAULT_PROJECT, FORGOTTEN, Chain
from nexus.kernel.clock import Clock
from nexus.kernel.errors import UsageError
from nexus.kernel.events import Event, chain
from nexus.kernel.identity import Principal, Role
from nexus.kernel.records import Records

_PAGE = 5000
_DIGEST = 64


class Audit:
    """Reads the events of all slices; they are chained where they are stored."""

    def __init__(self, records: Records, clock: Clock) -> None:
        self._records = records
        self._clock = clock

    async def trail(
        self,
        principal: Principal,
        *,
        subject: str | None = None,
        actor: str | None = None,
        since: float | None = None,
        before: int | None = None,
        everywhere: bool = False,
        limit: int = 100,
    ) -> Sequence[Event]:
        """The newest events of the asker's project first; `everywhere`, of the whole server, is for its owners."""
        principal.need_person(Role.ADMIN)
        if everywhere:
            principal.need_owner()
        return await self._records.events(
            before=before,
            subject=subject,
            project=None if everywhere else principal.project,
            actor=actor,
            since=since,
            limit=limit,
            newest=True,
        )

    async def verify(self, principal: Principal, expected: str = "") -> Chain:
        """Walk the chain of the whole server. `expected` is a digest that was noted earlier: a trail that was cut short
        does not hold it any more. Raises ForbiddenError, UsageError.
        """
        principal.need_owner()
        if expected and len(expected) != _DIGEST:
            raise UsageError("a digest has 64 hex digits", hint="nexus audit verify prints it.")
        seq, head = await self._forgotten()
        count, unchained, found = 0, 0, not expected
        while page := await self._records.events(after=seq, limit=_PAGE):
            for event in page:
                seq = event.seq
                if not event.digest and not count:
                    unchained += 1
                    continue
                if event.digest != chain(head, event):
                    return Chain(count, unchained, head, broken=seq, expected=found)
                head, count = event.digest, count + 1
                found = found or head == expected
            await asyncio.sleep(0)  # other requests go first
        return Chain(count, unchained, head, expected=found)

    async def _forgotten(self) -> tuple[int, str]:
        """Where the trail begins: the last event that was forgotten with age, and its digest."""
        said = await self._records.events(subject=FORGOTTEN, newest=True, limit=1)
        return (int(said[0].data["through"]), str(said[0].data["digest"])) if said else (0, "")

    async def denied(self, address: str, path: str) -> None:
        """Somebody came with a token that is not known. The caller bounds how often this is written down."""
        said = {"from": address, "path": path[:200]}
        await self._records.apply(
            events=[Event("token.denied", "", DEFAULT_PROJECT, self._clock.now(), "stranger", said)]
        )
