"""One conformance suite for every implementation of `kernel.records.Records`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from nexus.infra.records.cached import CachedRecords
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
HOT_PETS = replace(PETS, hot={"tame": True}, shared=("owner",))


def pet(number: int, **values: object) -> Pet:
    return Pet(id=f"pet_{number:04}", project="p", created=float(number), name=f"pet{number}", **values)  # type: ignore[arg-type]


@pytest.fixture(params=["memory", "sqlite", "postgresql", "sqlite, some cached", "sqlite, all cached"])
async def records(request: pytest.FixtureRequest, tmp_path: Path, anyio_backend: str) -> AsyncIterator[Records]:
    if request.param == "memory":
        yield MemoryRecords()
        return
    if request.param == "postgresql":
        new_database: Callable[[], str] = request.getfixturevalue("postgres")
        url = new_database()
    else:
        url = f"sqlite:///{tmp_path / 'nexus.db'}"
    store = open_store(url)
    if "cached" in request.param:
        hot = HOT_PETS if "some" in request.param else replace(HOT_PETS, hot={})
        cached = CachedRecords(store, [hot])
        await cached.load()
        yield cached
    else:
        yield store
    store.close()


def open_store(url: str) -> SqlRecords:
    engine = open_engine(url)
    tables = build_tables([PETS])
    tables.create_all(engine)
    return SqlRecords(engine, tables)


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


async def test_each_transaction_is_heard_as_stored_before_its_writer_goes_on(records: Records) -> None:
    heard: list[object] = []
    stop = records.listen(lambda changes, events: heard.append((list(changes), [one.kind for one in events])))
    await records.apply((PETS, pet(1)), events=[event("a")])
    stored = replace(pet(1), version=1)
    assert heard == [([(PETS, stored)], ["a"])]
    with pytest.raises(ConflictError):
        await records.apply((PETS, pet(1, legs=3)))
    await records.apply(Drop(PETS, stored))
    assert heard[1:] == [([Drop(PETS, stored)], [])]
    stop()
    await records.apply((PETS, pet(2)))
    assert len(heard) == 2


async def test_of_transactions_at_once_a_conflict_hurts_only_its_own(records: Records) -> None:
    await records.apply((PETS, pet(1)))
    heard: list[str] = []
    records.listen(lambda _, events: heard.extend(one.kind for one in events))
    tries = [
        records.apply((PETS, pet(n)), (PETS, pet(n + 100, legs=n)), events=[event(str(n))]) for n in range(1, 30)
    ]  # the first one's pet exists; its other one must not come to be either
    late = records.apply((PETS, replace(pet(200), name="pet7")), events=[event("late")])  # its name is being taken
    outcomes = await asyncio.gather(*tries, late, return_exceptions=True)
    assert [isinstance(outcome, ConflictError) for outcome in outcomes] == [True, *[False] * 28, True]
    expected = [str(n) for n in range(2, 30)]
    assert heard == expected
    assert [one.kind for one in await records.events()] == expected
    assert {row.id for row in await records.find(PETS)} == {
        "pet_0001",
        *(f"pet_{n:04}" for n in range(2, 30)),
        *(f"pet_{n + 100:04}" for n in range(2, 30)),
    }


async def test_a_writer_that_stops_waiting_does_not_undo_its_write(records: Records) -> None:
    writing = asyncio.ensure_future(records.apply((PETS, pet(1)), events=[event("a")]))
    await asyncio.sleep(0)
    writing.cancel()
    await asyncio.wait([writing])
    await records.apply((PETS, pet(2)), events=[event("b")])
    assert [row.id for row in await records.find(PETS)] == ["pet_0001", "pet_0002"]
    assert [row.id for row in await records.find(PETS, {"tame": True})] == ["pet_0001", "pet_0002"]
    assert await records.get(PETS, "pet_0001") == replace(pet(1), version=1)


async def test_a_record_is_found_by_what_it_is_now(records: Records) -> None:
    await records.apply(*((PETS, pet(n, owner="ann")) for n in range(5)))
    for tame, owner in ((False, "bob"), (True, None), (False, "ann"), (True, "bob")):
        stored = await records.get(PETS, "pet_0003")
        assert stored
        await records.apply((PETS, replace(stored, tame=tame, owner=owner)))
        assert await records.get(PETS, "pet_0003") == replace(
            stored, tame=tame, owner=owner, version=stored.version + 1
        )
        tame_ones = await records.find(PETS, {"tame": True})
        assert [row.id[-1] for row in tame_ones] == ["0", "1", "2", *(["3"] if tame else []), "4"]
        of_owner = await records.find(PETS, {"owner": owner, "tame": [True]})
        assert ("pet_0003" in {row.id for row in of_owner}) is tame
        assert "pet_0003" in {row.id for row in await records.find(PETS, {"owner": owner})}


async def test_what_was_stored_before_is_in_memory_after_a_restart(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'nexus.db'}"
    first = open_store(url)
    await first.apply(*((PETS, pet(n, tame=n % 2 == 0, owner="the same words for all")) for n in range(20)))
    first.close()
    store = open_store(url)
    cached = CachedRecords(store, [HOT_PETS])
    await cached.load()
    store.close()  # from here on only memory can answer
    tame = await cached.find(PETS, {"tame": True})
    assert [row.id for row in tame] == [f"pet_{n:04}" for n in range(0, 20, 2)]
    assert len({id(row.owner) for row in tame}) == 1
    assert await cached.get(PETS, "pet_0004") == tame[2]
    with pytest.raises(RuntimeError):
        await cached.find(PETS, {"tame": [True, False]})


async def test_a_second_server_on_one_database_is_refused(tmp_path: Path, postgres: Callable[[], str]) -> None:
    for url in (f"sqlite:///{tmp_path / 'nexus.db'}", postgres()):
        first, second = open_store(url), open_store(url)
        first.hold()
        with pytest.raises(ConflictError, match="another Nexus server") as caught:
            second.hold()
        assert "NEXUS" in caught.value.hint or "setting" in caught.value.hint
        await first.apply((PETS, pet(1)))
        await first.check()
        first.close()
        second.hold()
        second.close()


async def test_a_lost_hold_ends_writing_for_good(postgres: Callable[[], str]) -> None:
    url = postgres()
    store = open_store(url)
    store.hold()
    await store.apply((PETS, pet(1)))
    other = open_engine(url)
    with other.connect() as connection:
        connection.exec_driver_sql(
            "SELECT pg_terminate_backend(pid) FROM pg_locks JOIN pg_database ON database = pg_database.oid "
            "WHERE locktype = 'advisory' AND datname = current_database()"
        )
        connection.commit()
    other.dispose()
    with pytest.raises(UnavailableError):
        await store.apply((PETS, pet(2)))
    for attempt in (store.check, lambda: store.apply((PETS, pet(2)))):
        with pytest.raises(UnavailableError, match="lost its hold"):
            await attempt()
    assert [row.id for row in await store.find(PETS)] == ["pet_0001"]
    store.close()


async def test_a_database_that_cannot_be_reached_says_so(tmp_path: Path) -> None:
    engine = open_engine(f"sqlite:///{tmp_path}/missing/folder.db")
    store = SqlRecords(engine, build_tables([PETS]))
    with pytest.raises(UnavailableError, match="does not answer"):
        await store.get(PETS, "x")
    store.close()
