"""Browser sessions for the log-in page, and one's projects, from the Access slice."""

from __future__ import annotations

from collections.abc import Sequence

from nexus.access.service import Access, People
from nexus.kernel.identity import Principal


class AccessSource:
    """Implements `studio.ports.Sessions`."""

    def __init__(self, service: Access, people: People) -> None:
        self._service = service
        self._people = people

    async def exchange(self, code: str, address: str) -> str:
        return (await self._service.exchange(code, address)).secret

    async def log_in(self, user: str, password: str, address: str) -> str:
        return (await self._people.log_in(user, password, address=address, browser=True)).secret

    async def projects(self, who: Principal) -> Sequence[tuple[str, str]]:
        return [(one.name, str(one.role)) for one in await self._people.projects(who)]

    async def end(self, token: str) -> None:
        await self._service.end_session(token)
