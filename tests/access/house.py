"""Access over records in memory, with a clock that moves when told to."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from nexus.access.adapters.vault import KeyVault
from nexus.access.model import OWNER, NewToken
from nexus.access.service import Access, Audit, People, Secrets
from nexus.access.service.tokens import SYSTEM
from nexus.infra.clock import system_entropy
from nexus.infra.records.memory import MemoryRecords
from nexus.kernel.identity import Principal, Role


class StillClock:
    """A clock that moves when told to."""

    def __init__(self) -> None:
        self.at = 1_000_000.0

    def now(self) -> float:
        return self.at

    def monotonic(self) -> float:
        return self.at

    async def sleep(self, seconds: float) -> None:
        self.at += seconds


async def _lives(run: str) -> bool:
    return run != "run_ended"


@dataclass
class House:
    """All of Access. `used` says what still works in which project."""

    folder: Path
    records: MemoryRecords = field(default_factory=MemoryRecords)
    clock: StillClock = field(default_factory=StillClock)
    used: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.access = Access(self.records, self.clock, system_entropy, b"k" * 32, is_live=_lives)
        self.people = People(self.records, self.clock, system_entropy, self.access, self._in_use)
        self.vault = KeyVault(self.folder / "secrets.key", {})
        self.secrets = Secrets(self.records, self.clock, self.vault)
        self.audit = Audit(self.records, self.clock)

    async def _in_use(self, project: str) -> str:
        return self.used.get(project, "")

    async def owner(self) -> Principal:
        """The first owner, as their command line is."""
        await self.people.found()
        return await self.who((await self.people.login_token(OWNER, "default", by=SYSTEM)).secret)

    async def who(self, secret: str, project: str = "") -> Principal:
        found = await self.access.authenticate(secret, project)
        assert found is not None
        return found

    async def user(self, name: str, role: Role | None = Role.MEMBER, project: str = "default") -> NewToken:
        """A user with a role in a project, and the token they begin with."""
        owner = await self.owner()
        made = await self.people.add_user(owner, name, role if project == "default" else None)
        if project != "default":
            boss = await self.who((await self.people.login_token(OWNER, "default", by=SYSTEM)).secret, project)
            await self.people.set_role(boss, name, role)
        return made.token
