"""What a killed agent left behind, put in order before a new one begins."""

from __future__ import annotations

import asyncio
import shutil
import time
from pathlib import Path

from nexus.agent.adapters.groups import Groups
from nexus.agent.adapters.home import Home, TaskHome
from nexus.agent.adapters.isolation.containers import Containers
from nexus.agent.adapters.launcher import Launcher

CHECKPOINTS_KEPT_S = 14 * 86_400.0  # after the last change


async def sweep(home: Home, launcher: Launcher, containers: Containers | None = None) -> None:
    """End set-ups that nobody waits for, and remove what no journal record speaks of.

    Set-ups write into environments that are shared: none of an earlier agent may go on while a new one builds. A job
    whose record cannot be read is ended, since nobody could report it; its files stay, for a person to look at. A
    container, or a control group, lives as long as its job's shim.
    """
    for path in home.tasks.iterdir():
        task = TaskHome(path)
        await _end(launcher, task, task.setup)
        if not task.record.exists():
            await _end(launcher, task, task.job)
            if not (path / "task.json.broken").exists():
                await asyncio.to_thread(shutil.rmtree, path, ignore_errors=True)
    living = [path for path in home.tasks.iterdir() if launcher.look(path / "job").alive]
    Groups(home.path).sweep(frozenset(path.name for path in living))
    if containers is not None:
        await containers.sweep(frozenset(containers.name(path / "job") for path in living))
    await asyncio.to_thread(_drop_old_checkpoints, home.checkpoints)


async def _end(launcher: Launcher, task: TaskHome, place: Path) -> None:
    while launcher.look(place).alive:
        launcher.stop(place)
        await launcher.activity(task, 0.1)


def _drop_old_checkpoints(folder: Path) -> None:
    oldest = time.time() - CHECKPOINTS_KEPT_S  # noqa: TID251 (compared with the times of files)
    for run in folder.iterdir():
        times = [path.lstat().st_mtime for path in (run, *run.rglob("*"))]
        if max(times) < oldest:
            shutil.rmtree(run, ignore_errors=True)
