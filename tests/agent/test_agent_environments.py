"""The cache of environments: named by what goes in, bounded, never pulled from under a task."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from nexus.agent.adapters import environments as module
from nexus.agent.adapters.environments import Environments, environment_hash, read_setup_files
from nexus.kernel.errors import UsageError


def test_an_environment_is_named_by_all_that_goes_in() -> None:
    same = environment_hash("pip install a", {"requirements.txt": b"x"})
    assert same == environment_hash("pip install a", {"requirements.txt": b"x"})
    others = [
        environment_hash("pip install b", {"requirements.txt": b"x"}),
        environment_hash("pip install a", {"requirements.txt": b"y"}),
        environment_hash("pip install a", {"other.txt": b"x"}),
        environment_hash("pip install a", {}),
    ]
    assert len({same, *others}) == 5


def test_setup_files_stay_inside_the_workspace(tmp_path: Path) -> None:
    (tmp_path / "work").mkdir()
    (tmp_path / "secret").write_text("x")
    (tmp_path / "work" / "link").symlink_to(tmp_path / "secret")
    (tmp_path / "work" / "requirements.txt").write_text("a")
    assert read_setup_files(tmp_path / "work", ("requirements.txt",)) == {"requirements.txt": b"a"}
    for name in ("../secret", "link", "missing"):
        with pytest.raises(UsageError, match=name):
            read_setup_files(tmp_path / "work", (name,))


def made(cache: Environments, name: str, size: int, age: float) -> None:
    path = cache.path(name)
    path.mkdir()
    (path / "content").write_bytes(b"x" * size)
    cache.finish(name)
    os.utime(path / "ok", (1e9 - age, 1e9 - age))


def test_the_least_used_environments_give_way(tmp_path: Path) -> None:
    cache = Environments(tmp_path, {}, cache_b=2500)
    for name, age in (("old", 300), ("used", 200), ("young", 100)):
        made(cache, name, 1000, age)
    assert cache.evict(frozenset({"used"})) == ["old"]
    assert not cache.path("old").exists()
    made(cache, "newest", 1000, 0)
    assert cache.evict(frozenset({"used"})) == ["young"]
    assert cache.is_ready("used")
    assert cache.is_ready("newest")
    assert not cache.is_ready("young")


@pytest.mark.anyio
async def test_one_builds_and_the_others_wait(tmp_path: Path) -> None:
    cache = Environments(tmp_path, {})
    built: list[bool] = []
    waits: list[int] = []

    async def build(number: int) -> None:
        async with cache.building("name", lambda: waits.append(number)) as is_needed:
            if is_needed:
                built.append(True)
                await asyncio.sleep(0.15)
                cache.path("name").mkdir()
                cache.finish("name")

    await asyncio.gather(*(build(number) for number in range(4)))
    assert len(built) == 1
    assert len(waits) == 3


@pytest.mark.slow
@pytest.mark.anyio
async def test_without_uv_the_standard_library_makes_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "find_uv", lambda _: None)
    cache = Environments(tmp_path, dict(os.environ))
    await cache.create("name")
    process = await asyncio.create_subprocess_exec("pip", "--version", env=cache.variables("name"))
    assert await process.wait() == 0
    assert (cache.path("name") / "bin" / "pip").exists()
