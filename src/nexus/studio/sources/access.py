"""Browser sessions for the log-in page, from the Access slice."""

from __future__ import annotations

from nexus.access.service import Access


class AccessSource:
    """Implements `studio.ports.Sessions`."""

    def __init__(self, service: Access) -> None:
        self._service = service

    async def exchange(self, code: str) -> str:
        return (await self._service.exchange(code)).secret

    async def end(self, token: str) -> None:
        await self._service.end_session(token)
