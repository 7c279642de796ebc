"""Whose key it is, asked once and remembered for a few seconds: the check is on every request's path."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from nexus.kernel.identity import Principal

Authenticate = Callable[[str], Awaitable[Principal | None]]

REMEMBER_S = 2.0  # beside the two of `Access`: a revoked key works so much longer at most
_MOST = 10_000


class Keys:
    """A bounded memory in front of `authenticate`."""

    def __init__(self, authenticate: Authenticate, loop: asyncio.AbstractEventLoop) -> None:
        self._authenticate = authenticate
        self._loop = loop
        self._known: dict[str, tuple[Principal, float]] = {}
        self._asking: dict[str, asyncio.Task[Principal | None]] = {}

    def known(self, key: str) -> Principal | None:
        """Whose key it is, if that is remembered; no waiting."""
        found = self._known.get(key)
        if found is None:
            return None
        if found[1] < self._loop.time():
            del self._known[key]
            return None
        return found[0]

    async def ask(self, key: str) -> Principal | None:
        """Whose key it is. Many requests with the same key ask once."""
        task = self._asking.get(key)
        if task is None:
            task = self._asking[key] = self._loop.create_task(self._remembered(key))
        return await asyncio.shield(task)

    async def _remembered(self, key: str) -> Principal | None:
        try:
            principal = await self._authenticate(key)
        finally:
            self._asking.pop(key, None)
        if principal is not None:
            if len(self._known) >= _MOST:
                self._known.clear()
            self._known[key] = (principal, self._loop.time() + REMEMBER_S)
        return principal
