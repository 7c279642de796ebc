"""The trail of events: each is chained to the one before, and whoever changes the record breaks the chain."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from nexus.access.service import Audit
from nexus.app.database import open_records
from nexus.infra.clock import SystemClock
from nexus.infra.records.sql import SqlRecords
from nexus.kernel.errors import ConflictError, ForbiddenError, UsageError
from nexus.kernel.events import Event, chain
from nexus.kernel.identity import Principal, PrincipalKind, Role
from tests.access.house import House

pytestmark = pytest.mark.anyio
OWNER = Principal(PrincipalKind.USER, "owner", "p", Role.ADMIN, owner=True)
ADMIN = Principal(PrincipalKind.USER, "ada", "p", Role.ADMIN)
MEMBER = Principal(PrincipalKind.USER, "mel", "p", Role.MEMBER)


def happened(number: int, **more: object) -> Event:
    return Event("run.moved", f"run_{number}", "p", 1000.5 + number, "mel", {"n": number, "text": "ä\n", **more})


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "nexus.db"


async def written(file: Path, count: int = 20) -> str:
    """A database with that many events; the digest of the last one."""
    records = open_records(f"sqlite:///{file}")
    for number in range(count):
        await records.apply(events=[happened(number)])
    found = await Audit(records, SystemClock()).verify(OWNER)
    records.close()
    assert (found.events, found.broken) == (count, None)
    return found.head


async def verified(file: Path, expected: str = "") -> tuple[int | None, bool]:
    records = open_records(f"sqlite:///{file}")
    found = await Audit(records, SystemClock()).verify(OWNER, expected)
    records.close()
    return found.broken, found.expected


def change(file: Path, statement: str) -> None:
    with sqlite3.connect(file) as connection:
        connection.execute(statement)
    connection.close()


async def test_the_chain_goes_on_after_a_restart(file: Path) -> None:
    head = await written(file)
    records = open_records(f"sqlite:///{file}")
    await records.apply(events=[happened(98), happened(99)])
    (last,) = await records.events(newest=True, limit=1)
    assert last.digest == chain(chain(head, happened(98)), happened(99))
    records.close()
    assert await verified(file, head) == (None, True)


@pytest.mark.parametrize(
    ("statement", "broken"),
    [
        ("UPDATE events SET actor = 'eve' WHERE seq = 7", 7),
        ("UPDATE events SET data = '{\"n\":6}' WHERE seq = 7", 7),
        ("UPDATE events SET at = at + 1 WHERE seq = 7", 7),
        ("UPDATE events SET digest = '' WHERE seq = 7", 7),
        ("DELETE FROM events WHERE seq = 7", 8),
        ("DELETE FROM events WHERE seq = 1", 2),
        ("UPDATE events SET seq = 100 WHERE seq = 7", 8),
        (
            """INSERT INTO events (kind, subject, project, at, actor, data, digest)
            VALUES ('run.moved', 'x', 'p', 1, 'eve', '{}', (SELECT digest FROM events WHERE seq = 20))""",
            21,
        ),
    ],
)
async def test_whoever_changes_the_record_breaks_the_chain(file: Path, statement: str, broken: int) -> None:
    await written(file)
    change(file, statement)
    assert (await verified(file))[0] == broken


async def test_a_trail_that_was_cut_short_does_not_hold_a_digest_that_was_noted(file: Path) -> None:
    head = await written(file)
    change(file, "DELETE FROM events WHERE seq > 15")
    assert await verified(file) == (None, True)
    assert await verified(file, head) == (None, False)
    with pytest.raises(UsageError):
        await verified(file, "abc")


async def test_a_transaction_that_failed_leaves_no_gap(file: Path) -> None:
    await written(file)
    records = open_records(f"sqlite:///{file}")
    house = House(file.parent, records=records)  # type: ignore[arg-type]
    owner = await house.owner()
    await house.people.create_project(owner, "vision")
    for _ in range(3):
        with pytest.raises(ConflictError):
            await house.people.create_project(owner, "vision")
    await _race(records)
    found = await Audit(records, SystemClock()).verify(OWNER)
    records.close()
    assert found.broken is None
    assert found.events > 20


async def _race(records: SqlRecords) -> None:
    """Transactions that are written together, of which some fail."""
    import asyncio

    from nexus.access.model import PROJECTS, Project

    twice = [
        records.apply((PROJECTS, Project(id=f"p{n % 5}", project="p", created=1.0)), events=[happened(n)])
        for n in range(30)
    ]
    outcomes = await asyncio.gather(*twice, return_exceptions=True)
    assert sum(isinstance(one, ConflictError) for one in outcomes) == 25


async def test_events_of_an_older_version_come_before_the_chain(file: Path) -> None:
    await written(file, 3)
    change(file, "UPDATE events SET digest = ''")
    records = open_records(f"sqlite:///{file}")
    await records.apply(events=[happened(50)])
    found = await Audit(records, SystemClock()).verify(OWNER)
    records.close()
    assert (found.unchained, found.events, found.broken) == (3, 1, None)


async def test_the_trail_is_for_admins_and_the_whole_of_it_for_owners(tmp_path: Path) -> None:
    house = House(tmp_path)
    await house.records.apply(events=[happened(1), Event("x.y", "q1", "q", 2000.0, "eve")])
    assert [one.subject for one in await house.audit.trail(ADMIN)] == ["run_1"]
    assert [one.subject for one in await house.audit.trail(OWNER, everywhere=True)] == ["q1", "run_1"]
    assert [one.subject for one in await house.audit.trail(OWNER, everywhere=True, since=1500.0)] == ["q1"]
    assert [one.subject for one in await house.audit.trail(OWNER, everywhere=True, actor="mel")] == ["run_1"]
    assert [one.subject for one in await house.audit.trail(OWNER, everywhere=True, before=2)] == ["run_1"]
    assert await house.audit.trail(ADMIN, subject="q1") == []
    with pytest.raises(ForbiddenError):
        await house.audit.trail(MEMBER)
    with pytest.raises(ForbiddenError):
        await house.audit.trail(ADMIN, everywhere=True)
    with pytest.raises(ForbiddenError):
        await house.audit.verify(ADMIN)
