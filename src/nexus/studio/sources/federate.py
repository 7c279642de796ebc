"""Rounds for the pages, as the control plane remembers them."""

from __future__ import annotations

from nexus.federate.model import ROUNDS, Round
from nexus.kernel.identity import Principal
from nexus.kernel.records import Records

_MOST = 10_000


class FederateSource:
    """Implements `studio.ports.Federate`."""

    def __init__(self, records: Records) -> None:
        self._records = records

    async def rounds(self, who: Principal, run: str) -> list[Round]:
        found = await self._records.find(ROUNDS, {"project": who.project, "run": run}, limit=_MOST)
        return sorted((one.round for one in found), key=lambda one: one.number)
