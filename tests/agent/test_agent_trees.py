"""Unpacked workspaces are kept and copied: the same files, each task its own, and no more than there is room for."""

from __future__ import annotations

import os
import shutil
import threading
from pathlib import Path

import pytest

from nexus.agent.adapters.trees import Trees
from nexus.infra.package import pack
from nexus.launch.model import TaskState
from tests.agent.conftest import agent_in_process
from tests.agent.server import Server, is_final, until

DIGEST = "a" * 64


def made(folder: Path, size: int = 10) -> Path:
    (folder / "src" / "empty").mkdir(parents=True)
    (folder / "src" / "run.sh").write_text("#!/bin/sh\n")
    (folder / "src" / "run.sh").chmod(0o755)
    (folder / "data.bin").write_bytes(os.urandom(size))
    (folder / "nothing").touch()
    (folder / "link").symlink_to("src/run.sh")
    return folder


def seen(folder: Path) -> dict[str, tuple[int, bytes | str]]:
    """Modes and contents by path."""
    found: dict[str, tuple[int, bytes | str]] = {}
    for path in folder.rglob("*"):
        content: bytes | str = ""
        if path.is_symlink():
            content = str(path.readlink())
        elif path.is_file():
            content = path.read_bytes()
        found[str(path.relative_to(folder))] = (path.lstat().st_mode, content)
    return found


def test_a_copy_is_the_same_and_its_own(tmp_path: Path) -> None:
    before = seen(made(tmp_path / "tree", 3_000_000))
    trees = Trees(tmp_path / "kept")
    assert not trees.copy(DIGEST, tmp_path / "one")
    trees.keep(DIGEST, tmp_path / "tree")
    assert not (tmp_path / "tree").exists()
    assert trees.copy(DIGEST, tmp_path / "one")
    assert seen(tmp_path / "one") == before
    (tmp_path / "one" / "data.bin").write_text("changed")
    (tmp_path / "one" / "src" / "run.sh").write_text("changed")
    assert trees.copy(DIGEST, tmp_path / "two")
    assert seen(tmp_path / "two") == before


def test_two_that_keep_the_same_at_once_do_no_harm(tmp_path: Path) -> None:
    trees = Trees(tmp_path / "kept")
    folders = [made(tmp_path / f"tree{number}") for number in range(8)]
    threads = [threading.Thread(target=trees.keep, args=(DIGEST, folder)) for folder in folders]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert trees.copy(DIGEST, tmp_path / "copy")
    assert len(seen(tmp_path / "copy")) == 6
    assert [path.name for path in (tmp_path / "kept").iterdir()] == [DIGEST]


def test_the_least_used_give_way(tmp_path: Path) -> None:
    trees = Trees(tmp_path / "kept", cache_b=3_500)
    for number, letter in enumerate("abc"):
        trees.keep(letter * 64, made(tmp_path / letter, 1_000))
        os.utime(tmp_path / "kept" / (letter * 64), (1e9 + number, 1e9 + number))
    (tmp_path / "kept" / ("d" * 64 + ".draft")).mkdir()
    os.utime(tmp_path / "kept" / ("d" * 64 + ".draft"), (1e9, 1e9))
    assert trees.copy("a" * 64, tmp_path / "copy")  # used now
    trees.keep("e" * 64, made(tmp_path / "e", 1_000))
    assert sorted(path.name[0] for path in (tmp_path / "kept").iterdir()) == ["a", "c", "e"]


@pytest.mark.anyio
async def test_the_second_task_of_a_workspace_needs_no_download(server: Server, home: Path, order) -> None:
    """And what the first one did to its files is not there; nor does a kept folder that went make a difference."""
    pack(made(home.parent / "tree"), home.parent / "package")
    digest = server.put((home.parent / "package").read_bytes())
    script = "cat nothing; src/run.sh; echo spoiled > nothing; rm data.bin; echo done"
    async with agent_in_process(server, home):
        server.want(order(script, "task_a", workspace=digest))
        await until(lambda: is_final(server, "task_a"))
        del server.blobs[digest]
        server.want(order(script, "task_b", workspace=digest))
        await until(lambda: is_final(server, "task_b"))
        for path in (home / "workspaces").rglob("nothing"):
            assert path.read_text() == ""
        shutil.rmtree(home / "workspaces")
        server.put((home.parent / "package").read_bytes())
        server.want(order(script, "task_c", workspace=digest))
        await until(lambda: is_final(server, "task_c"))
    assert {report.state for report in server.reports.values()} == {TaskState.SUCCEEDED}
    assert {server.text(task) for task in server.orders} == {"done"}
