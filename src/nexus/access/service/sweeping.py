"""What grows with use and is of no use any more goes: tokens that work no longer, and events of long ago."""

from __future__ import annotations

import structlog

from nexus.access.model import DEFAULT_PROJECT, FORGOTTEN, TOKENS, Token
from nexus.kernel.clock import Clock
from nexus.kernel.errors import ConflictError, NexusError
from nexus.kernel.events import Event
from nexus.kernel.records import Drop, Records

log = structlog.get_logger()
_EVERY_S = 3600.0
_DEAD_TOKEN_S = 7 * 86400.0  # how long a token that works no more can still be seen
_CHUNK = 2000


class Sweep:
    """`keep_events_s`: how old events get; 0: for ever."""

    def __init__(self, records: Records, clock: Clock, *, keep_events_s: float) -> None:
        self._records = records
        self._clock = clock
        self._keep_events_s = keep_events_s

    async def run_forever(self) -> None:
        """Sweep now and then, until cancelled."""
        while True:
            await self._clock.sleep(_EVERY_S)
            try:
                await self.sweep()
            except NexusError as error:
                log.warning("access.sweep_failed", error=error.message)  # the next one begins anew

    async def sweep(self) -> None:
        """Forget everything that is due."""
        while await self._sweep_tokens():
            pass
        while self._keep_events_s > 0 and await self._sweep_events():
            pass

    async def _sweep_tokens(self) -> bool:
        """Some tokens; whether there may be more."""
        now = self._clock.now()
        last: Token | None = None
        while page := await self._records.find(TOKENS, limit=_CHUNK, before=last):
            dead = [token for token in page if _is_dead(token, now)]
            try:
                await self._records.apply(*(Drop(TOKENS, token) for token in dead))
            except ConflictError:  # one was revoked meanwhile
                return True
            last = page[-1]
            if last.created > now - _DEAD_TOKEN_S:
                break
        return False

    async def _sweep_events(self) -> bool:
        """Some events, oldest first; whether there may be more. The trail says where it begins now."""
        oldest = await self._records.events(limit=_CHUNK)
        before = self._clock.now() - self._keep_events_s
        late = next((at for at, event in enumerate(oldest) if event.at >= before), len(oldest))
        if not late:
            return False
        last = oldest[late - 1]
        said = {"through": last.seq, "digest": last.digest}
        await self._records.apply(
            events=[Event("events.forgotten", FORGOTTEN, DEFAULT_PROJECT, self._clock.now(), data=said)]
        )
        await self._records.forget_events(last.seq)
        return late == _CHUNK


def _is_dead(token: Token, now: float) -> bool:
    """Whether the token works no more, and has not for a while."""
    if token.expires is not None and token.expires <= now - _DEAD_TOKEN_S:
        return True
    return (token.used or token.revoked) and token.created <= now - _DEAD_TOKEN_S
