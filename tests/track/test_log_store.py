"""The log store: bytes come back as they were sent, whatever the order, the pieces and the crashes."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nexus.kernel.errors import ConflictError, LimitError, UsageError
from nexus.kernel.logframes import frame, parse
from nexus.track.adapters.log_files import LogFiles
from nexus.track.adapters.segments import TaskLog
from tests.track.house import new_task

pytestmark = pytest.mark.anyio


def frames(count: int, first: int = 0, text: str = "line") -> bytes:
    return b"".join(frame(1_700_000_000_000 + i, "out", f"{text} {i}".encode()) for i in range(first, first + count))


@pytest.fixture
def store(tmp_path: Path) -> LogFiles:
    return LogFiles(tmp_path, segment_b=4096)


async def test_overlap_is_cut_and_a_gap_is_refused(store: LogFiles) -> None:
    task, data = new_task(), frames(100)
    assert await store.append(task, 0, data[:1000]) == 1000
    assert await store.append(task, 0, data[:1000]) == 1000
    assert await store.append(task, 500, data[500:1500]) == 1500
    with pytest.raises(ConflictError) as caught:
        await store.append(task, 1501, data[1501:])
    assert caught.value.details["expected"] == 1500
    assert await store.append(task, 1500, data[1500:]) == len(data)
    assert await store.read(task, 0, 10**9) == data
    assert await store.read(task, 77, 100) == data[77:177]
    assert await store.read(task, len(data), 10) == b""
    assert await store.lines(task) == 100


@settings(deadline=None, max_examples=40)
@given(data=st.data())
def test_any_pieces_give_the_same_log_and_the_same_index(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("log")
    texts = data.draw(st.lists(st.binary(max_size=60).map(lambda b: b.replace(b"\n", b"")), max_size=40))
    stream = b"".join(frame(1000 + i, "out", text) for i, text in enumerate(texts))
    log = TaskLog(folder / "a", 256)
    while log.end < len(stream):
        size = data.draw(st.integers(1, 300))
        overlap = data.draw(st.integers(0, min(50, log.end)))
        log.append(log.end - overlap, stream[log.end - overlap : log.end + size])
        if data.draw(st.booleans()):
            log = TaskLog(folder / "a", 256)
    for opened in (log, TaskLog(folder / "a", 256)):
        assert opened.read(0, 10**9) == stream
        assert opened.lines == len(texts)
        for count in (0, 1, 3, len(texts), len(texts) + 5):
            last = list(enumerate(texts))[max(0, len(texts) - count) :] if count else []
            wanted = b"".join(frame(1000 + i, "out", text) for i, text in last)
            assert opened.read(opened.tail(count), 10**9) == wanted
    shutil.rmtree(folder)


async def test_the_index_is_made_again_when_it_is_gone_torn_or_wrong(tmp_path: Path) -> None:
    big = b"".join(frame(1_700_000_000_000 + i, "out", b"x" * 200) for i in range(5000))
    task = new_task()
    await LogFiles(tmp_path, segment_b=400_000).append(task, 0, big)
    indexes = sorted((tmp_path / task).glob("*.idx"))
    assert len(indexes) >= 2
    good = [path.read_bytes() for path in indexes]
    damages: list[Callable[[bytes], bytes | None]] = [
        lambda _: None,
        lambda _: b"",
        lambda raw: raw[:-5],
        lambda raw: b"\xff" * len(raw),
        lambda raw: raw[24:],
    ]
    for damage in damages:
        for path, raw in zip(indexes, good, strict=True):
            bad = damage(raw)
            path.unlink() if bad is None else path.write_bytes(bad)
        opened = LogFiles(tmp_path, segment_b=400_000)
        assert await opened.lines(task) == 5000
        assert await opened.read(task, 0, 10**9) == big
        offset = await opened.seek(task, 1_700_000_003_000)
        first = parse((await opened.read(task, offset, 300)).split(b"\n")[0])
        assert 1_700_000_002_000 < first.at_ms <= 1_700_000_003_000
    assert await opened.append(task, len(big), frames(1)) == len(big) + len(frames(1))


async def test_a_tail_of_zeros_is_what_a_power_cut_leaves(tmp_path: Path) -> None:
    task, data = new_task(), frames(10)
    await LogFiles(tmp_path).append(task, 0, data)
    (path,) = (tmp_path / task).glob("*.log")
    with path.open("ab") as file:
        file.write(b"\0" * 500)
    opened = LogFiles(tmp_path)
    assert await opened.end(task) == len(data)
    await opened.append(task, len(data), frames(5, 10))
    assert await opened.read(task, 0, 10**9) == frames(15)


async def test_what_lies_behind_a_hole_is_set_aside(tmp_path: Path) -> None:
    task, data = new_task(), frames(200)
    await LogFiles(tmp_path, segment_b=1000).append(task, 0, data)
    second = sorted((tmp_path / task).glob("*.log"))[1]
    second.write_bytes(second.read_bytes()[:300])
    opened = LogFiles(tmp_path, segment_b=1000)
    assert await opened.end(task) == 1300
    assert await opened.append(task, 1300, data[1300:]) == len(data)
    assert await opened.read(task, 0, 10**9) == data


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_a_full_disk_is_said_and_keeps_what_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    log = TaskLog(Path("/nonexistent"), 4096)
    monkeypatch.setattr(log, "_folder", Path("/dev"))
    monkeypatch.setattr(log, "_path", lambda *_: Path("/dev/full"))
    log._begin(0)
    with pytest.raises(LimitError) as caught:
        log.append(0, frames(3))
    assert "disk is full" in caught.value.message
    assert log.end == 0


async def test_search_looks_at_lines_not_at_their_heads(store: LogFiles) -> None:
    task = new_task()
    data = frames(500) + frame(1_700_000_009_000, "err", b"a needle here") + frames(500, 500)
    await store.append(task, 0, data)
    (hit,) = await store.search(task, "needle")
    assert parse(hit.frame).text == "a needle here"
    assert data[hit.offset :].startswith(hit.frame)
    assert await store.search(task, "1700000009") == []
    assert len(await store.search(task, "line", limit=7)) == 7
    with pytest.raises(UsageError):
        await store.search(task, "a\nb")


@pytest.mark.parametrize("task", ["../etc", "task_1", "", "task_" + "a" * 13 + "/x"])
async def test_only_ids_become_paths(store: LogFiles, task: str) -> None:
    with pytest.raises(UsageError):
        await store.append(task, 0, b"x")


async def test_a_piece_without_an_end_is_kept_too(store: LogFiles) -> None:
    task, rng = new_task(), random.Random(3)
    junk = rng.randbytes(200_000).replace(b"\n", b" ")
    await store.append(task, 0, junk)
    assert await store.read(task, 0, 10**9) == junk
    assert await store.lines(task) == 0
    assert await store.search(task, "nothing") == []
