"""Use cases over real stores: merged logs, models from runs, and nothing of other projects."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from nexus.kernel.errors import ConflictError, ForbiddenError, NotFoundError, UsageError
from nexus.kernel.logframes import frame, frames
from nexus.track.frames import write_params
from nexus.track.model import ArtifactKind, ArtifactReport, LogPage, read_cursor
from nexus.track.service.metrics import News
from tests.track.house import ALICE, BOB, NODE, VIEWER, House, build, owner, piece

pytestmark = pytest.mark.anyio


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    made = build(tmp_path)
    yield made
    made.close()


async def once(data: bytes) -> AsyncIterator[bytes]:
    yield data


async def upload(house: House, data: bytes) -> str:
    digest = hashlib.sha256(data).hexdigest()
    await house.track.uploads.put(NODE, digest, once(data))
    return digest


# --------------------------------------------------------------------------- logs


async def test_lines_of_all_tasks_are_merged_by_time_page_by_page(house: House) -> None:
    owners = [owner(index=i) for i in range(3)]
    for i, who in enumerate(owners):
        data = b"".join(frame(1_000_000 + 3 * n + i, "out", f"{i}:{n}".encode()) for n in range(1000))
        await house.track.logs.append(who, 0, data)
    seen: list[str] = []
    cursor = ""
    while True:
        page = await house.track.logs.page(ALICE, "job1", cursor=cursor, limit=700)
        seen += [line.text for line in page.lines]
        cursor = page.cursor
        if not page.lines:
            break
    assert seen == [f"{i}:{n}" for n in range(1000) for i in range(3)]
    assert not page.end
    tail = await house.track.logs.page(ALICE, "run_1", tail=4)
    assert [line.text for line in tail.lines] == ["2:998", "0:999", "1:999", "2:999"]
    assert read_cursor(tail.cursor) == read_cursor(cursor)
    one = await house.track.logs.page(ALICE, "run_1", task="worker/1", limit=2)
    assert [line.text for line in one.lines] == ["1:0", "1:1"]
    late = await house.track.logs.page(ALICE, "run_1", since_ms=1_000_000 + 3 * 900)
    assert late.lines[0].text == "0:900"
    with pytest.raises(UsageError, match="no task"):
        await house.track.logs.page(ALICE, "run_1", task="server")


async def test_a_long_line_stays_together_between_other_tasks_lines(house: House) -> None:
    first, second = owner(index=0), owner(index=1)
    long = b"x" * 200_000
    await house.track.logs.append(
        first, 0, b"".join(frames(1_000_000, "out", long)) + frame(1_000_002, "out", b"after")
    )
    await house.track.logs.append(second, 0, frame(1_000_000, "out", b"other") + frame(1_000_001, "err", b"more"))
    page = await house.track.logs.page(ALICE, "run_1")
    assert [line.whole for line in page.lines] == [False, False, False, True, True, True, True]
    assert "".join(line.text for line in page.lines[:4]) == long.decode()
    assert [line.text for line in page.lines[4:]] == ["other", "more", "after"]


async def test_a_clock_that_goes_back_reorders_no_task(house: House) -> None:
    first, second = owner(index=0), owner(index=1)
    await house.track.logs.append(first, 0, frame(2_000_000, "out", b"a") + frame(1_000_000, "out", b"b"))
    await house.track.logs.append(second, 0, frame(1_500_000, "out", b"c"))
    page = await house.track.logs.page(ALICE, "run_1")
    assert [line.text for line in page.lines] == ["c", "a", "b"]


async def test_following_sees_every_line_and_ends_with_the_run(house: House) -> None:
    who, count = owner(), 2500
    data = [frame(1_000_000 + i, "out", str(i).encode()) for i in range(count)]

    async def write() -> None:
        offset = 0
        for start in range(0, count, 50):
            piece = b"".join(data[start : start + 50])
            offset = await house.track.logs.append(who, offset, piece)
            await asyncio.sleep(0)
        house.runs.add("run_1", name="job1", ended=True)
        house.hints.hint("launch.run:run_1")

    async def read() -> list[LogPage]:
        return [page async for page in house.track.logs.follow(ALICE, "job1")]

    _, pages = await asyncio.wait_for(asyncio.gather(write(), read()), 20)
    assert [line.text for page in pages for line in page.lines] == [str(i) for i in range(count)]
    assert [page.end for page in pages] == [False] * (len(pages) - 1) + [True]


async def test_followers_leave_nothing_behind(house: House) -> None:
    who = owner()
    await house.track.logs.append(who, 0, frame(1, "out", b"hello"))
    async for _ in house.track.logs.follow(ALICE, "run_1"):
        break  # the client went away
    async for _ in house.track.metrics.follow(ALICE, "run_1"):
        break
    await asyncio.sleep(0)  # a generator that nobody holds is closed by the loop
    house.runs.add("run_1", name="job1", ended=True)
    async for _ in house.track.logs.follow(ALICE, "run_1"):
        pass
    async for _ in house.track.metrics.follow(ALICE, "run_1"):
        pass
    heard = house.hints.listen("log:run_1")
    assert house.hints.topics() == {"log:run_1"}
    house.hints.drop(heard, "log:run_1")
    assert house.hints.topics() == set()


async def test_log_end_is_what_launch_waits_for(house: House) -> None:
    who = owner()
    assert await house.track.log_end(who.task) == 0
    heard = house.hints.listen(f"log:{who.task}")
    end = await house.track.logs.append(who, 0, frame(1, "out", b"hello"))
    assert await house.track.log_end(who.task) == end
    assert heard.done()


# --------------------------------------------------------------------------- metrics


async def test_pieces_of_a_stream_at_any_cut_give_every_point_once(house: House) -> None:
    who = owner()
    data = b"".join(piece(range(i, i + 10), loss=[float(j) for j in range(i, i + 10)]) for i in range(0, 300, 10))
    sent, size = 0, 97
    while sent < len(data):
        end = await house.track.metrics.append(who, "m-1.bin", sent, data[sent : sent + size])
        again = await house.track.metrics.append(who, "m-1.bin", sent, data[sent : sent + size])
        assert again == end
        size = size + 50 if end == sent else 97  # no whole frame yet: send more
        sent = end
    (curve,) = await house.track.metrics.chart(ALICE, "job1", "loss", points=2000)
    assert list(curve.points.values) == [float(i) for i in range(300)]
    with pytest.raises(ConflictError) as caught:
        await house.track.metrics.append(who, "m-1.bin", len(data) + 5, data)
    assert caught.value.details["expected"] == len(data)


async def test_what_a_run_has_logged(house: House) -> None:
    first, second = owner(index=0), owner(index=1)
    await house.track.metrics.append(first, "m-1.bin", 0, piece(range(5), loss=[5.0, 4, 3, 2, 1]))
    await house.track.metrics.append(
        second, "m-2.bin", 0, piece(range(3), loss=[9.0, 8, 7]) + write_params(b'{"lr": 1}')
    )
    summary = await house.track.metrics.summary(ALICE, "job1")
    assert [(one.key, one.index, one.n, one.value) for one in summary.series] == [
        ("loss", 0, 5, 1.0),
        ("loss", 1, 3, 7.0),
    ]
    assert summary.params == {"lr": 1}
    assert await house.track.metrics.latest(ALICE, ["run_1", "run_77", "run_blue"]) == {"run_1": {"loss": 1.0}}
    with pytest.raises(NotFoundError, match="has not logged"):
        await house.track.metrics.chart(ALICE, "job1", "accuracy")
    (_, rest) = await house.track.metrics.chart(ALICE, "job1", "loss", after=2)
    assert (list(rest.points.values), rest.after) == ([7.0], 3)


async def test_news_begin_with_a_picture_and_go_on_point_by_point(house: House) -> None:
    who = owner()
    end = await house.track.metrics.append(who, "m", 0, piece(range(9000), loss=[float(i) for i in range(9000)]))
    first = await house.track.metrics.news(ALICE, "run_1", points=100)
    assert len(first.curves[0].points) <= 102
    assert not (await house.track.metrics.news(ALICE, "run_1", first.cursor)).curves
    await house.track.metrics.append(who, "m", end, piece(range(2), loss=[1.0, 2.0], acc=[0.1, 0.2]))
    second = await house.track.metrics.news(ALICE, "run_1", first.cursor)
    assert {curve.series.key: list(curve.points.values) for curve in second.curves} == {
        "loss": [1.0, 2.0],
        "acc": [0.1, 0.2],
    }


async def test_following_metrics_sees_every_point(house: House) -> None:
    who = owner()

    async def write() -> None:
        offset = 0
        for i in range(200):
            offset = await house.track.metrics.append(who, "m", offset, piece(range(i, i + 1), loss=[float(i)]))
        house.runs.add("run_1", name="job1", ended=True)

    async def read() -> list[News]:
        return [news async for news in house.track.metrics.follow(ALICE, "run_1", "")]

    _, every = await asyncio.wait_for(asyncio.gather(write(), read()), 20)
    found = [value for news in every for curve in news.curves for value in curve.points.values]
    assert found == [float(i) for i in range(200)]
    assert every[-1].end


async def test_a_damaged_or_foreign_stream_stops_nobody(house: House) -> None:
    who = owner()
    good = piece(range(1), loss=[1.0])
    data = b"garbage" + good + write_params(b"[1]") + write_params(b"{") + good
    assert await house.track.metrics.append(who, "m", 0, data) == len(data)
    summary = await house.track.metrics.summary(ALICE, "run_1")
    assert (summary.series[0].n, summary.params) == (2, {})
    with pytest.raises(UsageError):
        await house.track.metrics.append(who, "../m", 0, data)


# --------------------------------------------------------------------------- artifacts and models


async def test_a_model_of_a_run_becomes_a_version_with_its_story(house: House) -> None:
    who = owner()
    await house.track.metrics.append(who, "m", 0, piece(range(2), acc=[0.5, 0.9], bad=[1.0, float("nan")]))
    await house.track.metrics.append(who, "p", 0, write_params(b'{"lr": 0.1}'))
    first, second = await upload(house, b"one"), await upload(house, b"two")
    for digest in (first, first, second):
        report = ArtifactReport(name="Digits", digest=digest, size_b=3, kind=ArtifactKind.MODEL, meta={"by": "test"})
        await house.track.artifacts.report(who, report)
    versions = await house.track.models.versions(ALICE, "digits")
    assert [version.number for version in versions] == [2, 1]
    assert (versions[1].digest, versions[1].run, versions[1].task) == (first, who.run, who.task)
    assert (versions[1].params, versions[1].metrics, versions[1].meta) == ({"lr": 0.1}, {"acc": 0.9}, {"by": "test"})
    assert [artifact.digest for artifact in await house.track.artifacts.of_run(ALICE, "job1")] == [first, second]
    assert await house.track.resolve("red", "model://digits") == second
    assert await house.track.resolve("red", "model://digits@1") == first
    assert await house.track.resolve("red", "artifact://run_1/Digits") == second
    await house.track.models.set_alias(ALICE, "digits", "production", 1)
    assert await house.track.resolve("red", "model://digits@production") == first
    await house.track.models.drop_alias(ALICE, "digits", "production")
    for reference in ("model://digits@production", "model://digits@x@y", "model://", "artifact://run_1", "s3://x"):
        with pytest.raises(UsageError):
            await house.track.resolve("red", reference)
    for reference in ("model://digits@7", "model://other", "artifact://run_77/Digits", "artifact://run_1/x"):
        with pytest.raises(NotFoundError):
            await house.track.resolve("red", reference)


async def test_two_models_at_once_get_two_numbers(house: House) -> None:
    digest = await upload(house, b"weights")
    made = await asyncio.gather(*(house.track.models.register(ALICE, "m", digest) for _ in range(8)))
    assert sorted(version.number for version in made) == list(range(1, 9))
    assert (await house.track.models.get(ALICE, "m")).latest == 8
    events = [event for event in await house.records.events(project="red") if event.kind == "model.registered"]
    assert [event.data["version"] for event in events] == list(range(1, 9))


async def test_a_name_that_comes_again_means_the_newest(house: House) -> None:
    who = owner()
    digests = [await upload(house, data) for data in (b"a", b"b", b"a")]
    for digest in digests:
        await house.track.artifacts.report(who, ArtifactReport(name="out/x.pt", digest=digest, size_b=1))
    assert await house.track.resolve("red", "artifact://run_1/out/x.pt") == digests[2]
    assert len(await house.track.artifacts.of_run(ALICE, "run_1")) == 3


@pytest.mark.parametrize("name", ["../x", "/x", "a//b", "a\\b", "a\nb", "", "x" * 300, "."])
async def test_names_that_lead_out_are_refused(house: House, name: str) -> None:
    digest = await upload(house, b"x")
    with pytest.raises(UsageError):
        await house.track.artifacts.report(owner(), ArtifactReport(name=name, digest=digest, size_b=1))


# --------------------------------------------------------------------------- who may see what


async def test_another_project_sees_nothing(house: House) -> None:
    who = owner()
    await house.track.logs.append(who, 0, frame(1, "out", b"secret"))
    await house.track.metrics.append(who, "m", 0, piece(range(1), loss=[1.0]))
    digest = await upload(house, b"weights")
    report = ArtifactReport(name="m", digest=digest, size_b=1, kind=ArtifactKind.MODEL)
    artifact = await house.track.artifacts.report(who, report)
    track = house.track
    for call in (
        track.logs.page(BOB, "run_1"),
        track.logs.page(BOB, "job1"),
        track.logs.search(BOB, "run_1", "secret"),
        track.metrics.summary(BOB, "run_1"),
        track.metrics.chart(BOB, "run_1", "loss"),
        track.metrics.news(BOB, "run_1"),
        track.artifacts.of_run(BOB, "run_1"),
        track.artifacts.get(BOB, artifact.id),
        track.artifacts.content(BOB, artifact.id),
        track.models.get(BOB, "m"),
        track.models.versions(BOB, "m"),
        track.models.set_alias(BOB, "m", "production", 1),
        track.models.register(BOB, "mine", digest),
        track.uploads.size("blue", digest),
        track.resolve("blue", "model://m"),
        track.resolve("blue", "artifact://run_1/m"),
    ):
        with pytest.raises(NotFoundError):
            await call
    assert await track.metrics.latest(BOB, ["run_1"]) == {}
    assert await track.models.all(BOB) == []


async def test_knowing_a_digest_is_not_having_the_bytes(house: House) -> None:
    digest = await upload(house, b"weights")
    with pytest.raises(UsageError, match="digest"):
        await house.track.uploads.put(BOB, digest, once(b"guess"))
    with pytest.raises(NotFoundError):
        await house.track.uploads.open("blue", digest)
    await house.track.uploads.put(BOB, digest, once(b"weights"))
    size, chunks = await house.track.uploads.open("blue", digest)
    assert (size, b"".join([chunk async for chunk in chunks])) == (7, b"weights")


async def test_viewers_change_nothing_and_nodes_read_no_run(house: House) -> None:
    digest = await upload(house, b"weights")
    await house.track.models.register(ALICE, "m", digest)
    with pytest.raises(ForbiddenError):
        await house.track.models.register(VIEWER, "m", digest)
    with pytest.raises(ForbiddenError):
        await house.track.models.set_alias(VIEWER, "m", "production", 1)
    with pytest.raises(ForbiddenError):
        await house.track.logs.page(NODE, "run_1")
