"""Nothing grows for ever: dead tokens and old events go, and the trail can still be proven."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from nexus.access.model import TOKENS, Purpose, Token
from nexus.access.service import Audit, Sweep
from nexus.app.kinds import KINDS
from nexus.infra.records.memory import MemoryRecords
from nexus.infra.records.sql import SqlRecords, build_tables, open_engine
from nexus.kernel.events import Event
from nexus.kernel.identity import Principal, PrincipalKind, Role
from nexus.kernel.records import Records

pytestmark = pytest.mark.anyio
OWNER = Principal(PrincipalKind.USER, "owner", "default", Role.ADMIN, owner=True)
DAY = 86400.0
NOW = 1000 * DAY


class StillClock:
    def now(self) -> float:
        return NOW

    def monotonic(self) -> float:
        return NOW

    async def sleep(self, seconds: float) -> None:
        raise AssertionError("nothing waits here")


@pytest.fixture(params=["memory", "sqlite"])
async def records(request: pytest.FixtureRequest, tmp_path: Path, anyio_backend: str) -> AsyncIterator[Records]:
    if request.param == "memory":
        yield MemoryRecords()
        return
    engine = open_engine(f"sqlite:///{tmp_path / 'nexus.db'}")
    tables = build_tables(KINDS)
    tables.create_all(engine)
    store = SqlRecords(engine, tables)
    yield store
    store.close()


def token(number: int, age_days: float, **more: object) -> Token:
    blank = Token(
        id=f"{number:032x}", project="default", created=NOW - age_days * DAY, purpose=Purpose.JOIN, subject="ann"
    )
    return replace(blank, **more)  # type: ignore[arg-type]


async def test_tokens_that_work_no_more_go_after_a_while(records: Records) -> None:
    stays = [
        token(1, 400),
        token(2, 3, used=True),
        token(3, 3, revoked=True),
        token(4, 400, expires=NOW - 1 * DAY),
        token(5, 400, expires=NOW + DAY),
    ]
    goes = [token(6, 8, used=True), token(7, 30, revoked=True), token(8, 30, expires=NOW - 8 * DAY)]
    await records.apply(*((TOKENS, one) for one in (*stays, *goes)))
    await Sweep(records, StillClock(), keep_events_s=0).sweep()
    assert {one.id for one in await records.find(TOKENS)} == {one.id for one in stays}


async def test_old_events_go_and_the_rest_is_still_a_chain(records: Records) -> None:
    ages = [*range(400, 0, -1)]
    for age in ages:
        await records.apply(events=[Event("run.queued", f"run_{age}", "default", NOW - age * DAY)])
    sweep = Sweep(records, StillClock(), keep_events_s=90.5 * DAY)
    await sweep.sweep()
    left = await records.events()
    assert [event.subject for event in left] == [*(f"run_{age}" for age in range(90, 0, -1)), "events"]
    found = await Audit(records, StillClock()).verify(OWNER)
    assert (found.broken, found.events) == (None, 91)
    await sweep.sweep()
    assert await records.events() == left  # there was nothing to forget, and nothing is said
    await records.forget_events(left[4].seq)  # behind the trail's back
    assert (await Audit(records, StillClock()).verify(OWNER)).broken == left[5].seq


async def test_for_ever_is_for_ever(records: Records) -> None:
    await records.apply(events=[Event("run.queued", "run_1", "default", 0.0)])
    await Sweep(records, StillClock(), keep_events_s=0).sweep()
    assert len(await records.events()) == 1
