"""One conformance suite for every implementation of `kernel.records.Records`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from nexus.infra.records.memory import MemoryRecords
from nexus.infra.records.sql import SqlRecords, build_tables, open_engine
from nexus.kernel.errors import ConflictError, UnavailableError
from nexus.kernel.events import Event
from nexus.kernel.records import Drop, Kind, Record, Records

pytestmark = pytest.mark.anyio


@dataclass(frozen=True, slots=True, kw_only=True)
class Pet(Record):
    name: str
    legs: int = 4
    tame: bool = True
    owner: str | None = None


PETS = Kind("pet", Pet, index=("name", "legs", "tame", "owner"), unique=("project", "name"))


def pet(number: int, **values: object) -> Pet:
    return Pet(id=f"pet_{number:04}", project="p", created=float(number), name=f"pet{number}", **values)  # type: ignore[arg-type]


@pytest.fixture(params=["memory", "sqlite", "postgresql"])
async def records(request: pytest.FixtureRequest, tmp_path: Path, anyio_backend: str) -> AsyncIterator[Records]:
    if request.param == "memory":
        yield MemoryRecords()
        return
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path / 'nexus.db'}"
    else:
        new_database: Callable[[], str] = request.getfixturevalue("postgres")
        url = new_database()
    engine = open_engine(url)
    tables = build_tables([PETS])
    tables.create_all(engine)
    store = SqlRecords(engine, tables)
    yield store
    store.close()


async def test_what_is_stored_comes_back_one_version_higher(records: Records) -> None:
    await records.apply((PETS, pet(1, owner="ann")))
    assert await records.get(PETS, "pet_0001") == replace(pet(1, owner="ann"), version=1)
    assert await records.get(PETS, "pet_0002") is None


async def test_a_stale_version_changes_nothing_at_all(records: Records) -> None:
    await records.apply((PETS, pet(1)), (PETS, pet(2)))
    first = await records.get(PETS, "pet_0001")
    second = await records.get(PETS, "pet_0002")
    assert first and second
    await records.apply((PETS, replace(second, legs=3)))
    with pytest.raises(ConflictError):
        await records.apply((PETS, replace(first, legs=2)), (PETS, replace(second, legs=1)), events=[event("x")])
    assert await records.get(PETS, "pet_0001") == first
    assert await records.events() == []


async def test_a_new_record_must_not_exist(records: Records) -> None:
    await records.apply((PETS, pet(1)))
    with pytest.raises(ConflictError):
        await records.apply((PETS, pet(1, legs=3)))


async def test_unique_groups_hold(records: Records) -> None:
    await records.apply((PETS, pet(1)))
    with pytest.raises(ConflictError):
        await records.apply((PETS, replace(pet(2), name="pet1")))
    await records.apply((PETS, replace(pet(3), name="pet1", project="other")))


async def test_find_filters_by_every_indexed_attribute(records: Records) -> None:
    await records.apply((PETS, pet(1, tame=False)), (PETS, pet(2, legs=2, owner="ann")), (PETS, pet(3, owner="bob")))

    async def ids(**where: object) -> list[str]:
        return [row.id[-1] for row in await records.find(PETS, where)]  # type: ignore[arg-type]

    assert await ids() == ["1", "2", "3"]
    assert await ids(legs=2) == ["2"]
    assert await ids(tame=False) == ["1"]
    assert await ids(owner=None) == ["1"]
    assert await ids(owner=["ann", "bob"]) == ["2", "3"]
    assert await ids(owner=[]) == []
    assert await ids(owner=["ann", None]) == ["1", "2"]
    assert await ids(name=[f"pet{number}" for number in range(3, 30_000)]) == ["3"]
    assert await ids(project="p", name="pet3") == ["3"]
    assert await ids(project="q") == []


async def test_pages_in_both_directions_see_each_record_once(records: Records) -> None:
    same_moment = [replace(pet(n), created=float(n // 3)) for n in range(10)]
    await records.apply(*((PETS, one) for one in same_moment))
    for newest in (False, True):
        seen: list[str] = []
        last: Pet | None = None
        while page := await records.find(PETS, limit=4, newest=newest, before=last):
            seen += [row.id for row in page]
            last = page[-1]
        assert seen == sorted((one.id for one in same_moment), reverse=newest)


async def test_drop_needs_the_right_version(records: Records) -> None:
    await records.apply((PETS, pet(1)))
    with pytest.raises(ConflictError):
        await records.apply(Drop(PETS, pet(1)))
    stored = await records.get(PETS, "pet_0001")
    assert stored
    await records.apply(Drop(PETS, stored))
    assert await records.get(PETS, "pet_0001") is None


def event(kind: str, subject: str = "s", project: str = "p") -> Event:
    return Event(kind=kind, subject=subject, project=project, at=1.5, actor="me", data={"n": [1, "é"]})


async def test_events_keep_their_order_and_filters(records: Records) -> None:
    await records.apply(events=[event("a"), event("b", subject="t")])
    await records.apply(events=[event("c", project="q")])
    found = await records.events()
    assert [one.kind for one in found] == ["a", "b", "c"]
    assert found[0] == replace(event("a"), seq=found[0].seq)
    assert [one.kind for one in await records.events(after=found[0].seq)] == ["b", "c"]
    assert [one.kind for one in await records.events(subject="t")] == ["b"]
    assert [one.kind for one in await records.events(project="q")] == ["c"]
    assert [one.kind for one in await records.events(newest=True, limit=2)] == ["c", "b"]


async def test_of_many_writers_with_one_version_exactly_one_wins(records: Records) -> None:
    await records.apply((PETS, pet(1)))
    stored = await records.get(PETS, "pet_0001")
    assert stored
    tries = [records.apply((PETS, replace(stored, legs=n)), events=[event(str(n))]) for n in range(12)]
    outcomes = await asyncio.gather(*tries, return_exceptions=True)
    assert sum(outcome is None for outcome in outcomes) == 1
    assert all(outcome is None or isinstance(outcome, ConflictError) for outcome in outcomes)
    assert len(await records.events()) == 1


async def test_a_database_that_cannot_be_reached_says_so(tmp_path: Path) -> None:
    engine = open_engine(f"sqlite:///{tmp_path}/missing/folder.db")
    store = SqlRecords(engine, build_tables([PETS]))
    with pytest.raises(UnavailableError, match="does not answer"):
        await store.get(PETS, "x")
    store.close()
