"""The nursery forks shims; killing it costs nothing but the next fork's milliseconds."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from nexus.agent.adapters.home import Home, TaskHome
from nexus.agent.adapters.launcher import Launcher, Program
from nexus.agent.adapters.shim.formats import decode_status, now_s
from nexus.agent.model import Exit
from tests.agent.server import until

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="processes are read from /proc"),
]


@pytest.fixture
async def launcher(tmp_path: Path) -> AsyncIterator[Launcher]:
    home = Home(tmp_path / "agent")
    os.close(home.lock())
    launcher = Launcher(home, "boot")
    yield launcher
    launcher.close()


def start(launcher: Launcher, name: str, *argv: str) -> Path:
    home = TaskHome(launcher._home.tasks / f"{name}.1")
    home.path.mkdir()
    home.lease.write_text(f"{now_s() + 60}\n")
    launcher.start(home.job, home, Program(argv=argv, env={"PATH": os.defpath}, cwd=home.path, grace_s=1.0))
    return home.job


async def end(launcher: Launcher, place: Path) -> Exit:
    async with asyncio.timeout(30):
        while (seen := launcher.look(place)).exit is None:
            await launcher.activity(TaskHome(place.parent), 0.2)
    return seen.exit


def shim_of(place: Path) -> int:
    return int(decode_status((place / "claim").read_bytes())["shim"])


async def test_a_killed_nursery_is_replaced_and_its_shims_live_on(launcher: Launcher) -> None:
    before = start(launcher, "task_a", "sleep", "60")
    await until((before / "claim").exists)
    os.kill(launcher._nursery._pid, signal.SIGKILL)
    after = start(launcher, "task_b", "true")
    assert (await end(launcher, after)).exit_code == 0
    assert launcher.look(before).alive
    launcher.stop(before)
    assert (await end(launcher, before)).signal == signal.SIGTERM


async def test_orphans_are_buried_while_the_job_lives_and_ended_with_it(launcher: Launcher) -> None:
    """A daemon that left the job's session, its environment and its parent is still the job's."""
    script = (
        "for i in 1 2 3 4 5; do (setsid true &); done; "
        "(setsid env -i sleep 300 & echo $! > orphan); "
        "while [ ! -e enough ]; do sleep 0.05; done"
    )
    place = start(launcher, "task_c", "sh", "-c", script)
    folder = place.parent
    await until(lambda: (folder / "orphan").exists() and not _zombies(shim_of(place)))
    orphan = int((folder / "orphan").read_text())
    os.kill(orphan, 0)
    (folder / "enough").touch()
    assert (await end(launcher, place)).exit_code == 0
    with pytest.raises(ProcessLookupError):
        os.kill(orphan, 0)


def _zombies(parent: int) -> list[str]:
    found = []
    for name in Path(f"/proc/{parent}/task/{parent}/children").read_text().split():
        state = Path(f"/proc/{name}/stat").read_text().rpartition(")")[2].split()[0]
        if state == "Z":
            found.append(name)
    return found
