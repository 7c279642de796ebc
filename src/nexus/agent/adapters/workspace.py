"""A task's files: its workspace and its inputs, checked by digest, unpacked where they cannot do harm."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import os
import re
import shutil
from pathlib import Path

from nexus.agent.adapters.home import TaskHome
from nexus.agent.adapters.packages import is_package, unpack
from nexus.agent.adapters.trees import Trees
from nexus.agent.ports import Fetch
from nexus.kernel.errors import LimitError, NotFoundError, UsageError
from nexus.kernel.units import format_bytes
from nexus.launch.protocol import TaskOrder

_DIGEST = re.compile(r"[0-9a-f]{64}")


async def prepare_files(order: TaskOrder, home: TaskHome, fetch: Fetch, trees: Trees) -> None:
    """Bring the workspace and the inputs. Raises NexusError; what is there already is not brought again."""
    try:
        if not home.work.exists():
            await _bring_workspace(order, home, fetch, trees)
        for name, digest in order.inputs.items():
            target = input_path(home, name)
            if not target.exists():
                await _bring(digest, target, home, fetch)
    except OSError as error:
        raise LimitError(
            f"the files of the task could not be written: {error.strerror or error}",
            hint=f"{home.path} has {format_bytes(shutil.disk_usage(home.path).free)} left.",
        ) from error


def input_path(home: TaskHome, name: str) -> Path:
    """Where an input lies. Raises UsageError if its name leads elsewhere."""
    if not name or name in {".", ".."} or "/" in name or "\\" in name or "\0" in name:
        raise UsageError(f"{name!r:.100} cannot name an input")
    return home.work / "inputs" / name


async def _bring_workspace(order: TaskOrder, home: TaskHome, fetch: Fetch, trees: Trees) -> None:
    if order.workspace is None:
        home.work.mkdir(mode=0o700)
        return
    digest = _checked(order.workspace)
    if await asyncio.to_thread(_copy_tree, trees, digest, home):
        return
    try:
        await _bring(digest, home.work, home, fetch)
    except NotFoundError as error:
        raise NotFoundError(
            f"the server does not have the workspace {order.workspace[:12]} any more",
            hint="Launch the job again from its folder: its files are sent anew.",
        ) from error
    if home.work.is_dir():
        await asyncio.to_thread(_keep_tree, trees, digest, home)


def _copy_tree(trees: Trees, digest: str, home: TaskHome) -> bool:
    """Whether the workspace is there now, as a copy of the one that was kept."""
    draft = home.path / f"draft.{digest[:16]}"
    _clear(draft)
    try:
        if not trees.copy(digest, draft):
            return False
    except FileNotFoundError:  # it was dropped to make room meanwhile
        _clear(draft)
        return False
    draft.replace(home.work)
    return True


def _keep_tree(trees: Trees, digest: str, home: TaskHome) -> None:
    """The next task of this workspace need not unpack it. What is kept is never what a job has had its hands on."""
    try:
        trees.keep(digest, home.work)
    except OSError:
        return  # no room to keep it; the task has it
    if not _copy_tree(trees, digest, home):
        raise FileNotFoundError(errno.ENOENT, "the workspace was dropped to make room")


def _checked(digest: str) -> str:
    """Raises UsageError for what is no digest: it becomes part of a path, here and on the server."""
    if _DIGEST.fullmatch(digest) is None:
        raise UsageError(f"{digest!r:.80} is not a SHA-256 digest", hint="Launch the job again.")
    return digest


async def _bring(digest: str, target: Path, home: TaskHome, fetch: Fetch) -> None:
    """A package becomes a folder, anything else a file. It appears at `target` whole. Raises UsageError."""
    _checked(digest)
    archive = home.path / f"download.{digest[:16]}"
    draft = home.path / f"draft.{digest[:16]}"
    await asyncio.to_thread(_clear, draft)
    try:
        await _download(digest, archive, fetch)
        target.parent.mkdir(parents=True, exist_ok=True)
        if await asyncio.to_thread(is_package, archive):
            await asyncio.to_thread(unpack, archive, draft)
            draft.replace(target)
        else:
            archive.replace(target)
    finally:
        archive.unlink(missing_ok=True)
        await asyncio.to_thread(_clear, draft)


async def _download(digest: str, archive: Path, fetch: Fetch) -> None:
    """Raises UsageError if what came is not what was asked for."""
    found = hashlib.sha256()
    with archive.open("wb") as file:
        async for chunk in fetch(digest):
            found.update(chunk)
            file.write(chunk)
    if found.hexdigest() != digest:
        raise UsageError(
            f"the content of {digest[:12]} arrived damaged: it has the digest {found.hexdigest()[:12]}",
            hint="Launch the job again; if it happens again, the server's blob store is damaged.",
        )


def _clear(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def safe_below(root: Path, name: str) -> Path | None:
    """`root/name` if it is there and, with all links followed, still below `root`."""
    path = Path(os.path.realpath(root / name))
    return path if path.exists() and path.is_relative_to(os.path.realpath(root)) else None
