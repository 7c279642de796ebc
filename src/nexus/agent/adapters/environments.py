"""Environments of jobs: made once for each setup, kept while there is room.

An environment is named by a hash of everything that may change it: the setup's text, the contents of the files which
it names, the platform and the Python version. It is built where it stays (virtual environments hold absolute paths),
under a lock, and counts only once its marker is there: a build that was cut off is thrown away.
"""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import os
import platform
import shutil
import sys
from collections.abc import Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from nexus.agent.adapters.variables import given_devices, machine_variables, own_path, pip_files, uv_variables
from nexus.kernel.errors import LimitError, MissingError, UsageError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

CACHE_B = 20 * 1024**3  # of environments that no task uses
_MARKER = "ok"

_PIP = """#!/bin/sh
# pip of this environment: the same words, done by uv, which is many times faster.
export VIRTUAL_ENV="{env}"
exec "{uv}" pip "$@"
"""
_PIP_MODULE = '''"""`python -m pip` of this environment: the same words, done by uv."""

import os
import sys

os.environ["VIRTUAL_ENV"] = sys.prefix
os.execv({uv!r}, [{uv!r}, "pip", *sys.argv[1:]])
'''


def environment_hash(setup: str, files: Mapping[str, bytes], sharers: str = "") -> str:
    """The name of the environment that `setup` makes, given the contents of the files it reads.

    `sharers` are the only ones who may use it; empty: everybody.
    """
    digest = hashlib.sha256()
    parts = [setup.encode(), platform.platform().encode(), sys.version.encode(), sys.prefix.encode()]
    for name, content in sorted(files.items()):
        parts += [name.encode(), content]
    for part in [*parts, *([sharers.encode()] if sharers else [])]:
        digest.update(len(part).to_bytes(8, "big"))
        digest.update(part)
    return digest.hexdigest()[:32]


def read_setup_files(work: Path, names: tuple[str, ...]) -> dict[str, bytes]:
    """The files that a setup depends on. Raises UsageError if one is missing, or outside of the workspace."""
    found: dict[str, bytes] = {}
    root = work.resolve()
    for name in names:
        path = (root / name).resolve()
        if not path.is_relative_to(root):
            raise UsageError(f"the setup file {name} lies outside of the workspace")
        if not path.is_file():
            raise UsageError(
                f"the setup file {name} is not in the workspace", hint="Is it there, and not ignored by .gitignore?"
            )
        found[name] = path.read_bytes()
    return found


@asynccontextmanager
async def locked(file: Path, waiting: Callable[[], None]) -> AsyncIterator[None]:
    """Hold the lock on a file. `waiting` is called once if another holds it."""
    fd = os.open(file, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        said = False
        while True:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if not said:
                    waiting()
                    said = True
                await asyncio.sleep(0.1)
        yield
    finally:
        os.close(fd)


class Environments:
    """The cache of environments under one folder."""

    def __init__(self, folder: Path, environ: Mapping[str, str] | None = None, cache_b: int = CACHE_B) -> None:
        self.folder = folder
        self._environ = dict(os.environ if environ is None else environ)
        self._cache_b = cache_b
        self._known: tuple[list[int], dict[str, str]] | None = None

    def path(self, name: str) -> Path:
        return self.folder / name

    def is_ready(self, name: str) -> bool:
        """Whether it is complete; then it counts as used now."""
        try:
            os.utime(self.path(name) / _MARKER)
        except FileNotFoundError:
            return False
        return True

    @asynccontextmanager
    async def building(self, name: str, waiting: Callable[[], None]) -> AsyncIterator[bool]:
        """Hold the lock on an environment; gives whether it still has to be built. `waiting` is called if others do."""
        async with locked(self.folder / f"{name}.lock", waiting):
            yield not self.is_ready(name)

    async def create(self, name: str) -> None:
        """An empty environment. Raises MissingError, LimitError."""
        path = self.path(name)
        await asyncio.to_thread(shutil.rmtree, path, ignore_errors=True)
        uv = find_uv(self._environ)
        command = (
            [uv, "venv", "--quiet", "--python", sys.executable, str(path)]
            if uv
            else [sys.executable, "-m", "venv", str(path)]
        )
        process = await asyncio.create_subprocess_exec(
            *command,
            env=self.variables(None),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        try:
            output, _ = await process.communicate()
        except asyncio.CancelledError:
            process.kill()
            raise
        if process.returncode:
            words = output.decode("utf-8", "replace").strip()
            raise MissingError(
                f"no environment could be made: {words[-500:]}", hint="Is there room on the disk, and a whole Python?"
            )
        if uv:
            _forward_pip(path, uv)

    def finish(self, name: str) -> None:
        """The environment is complete; old ones give way if there are too many."""
        path = self.path(name)
        size = sum(entry.lstat().st_size for entry in path.rglob("*"))
        try:
            (path / _MARKER).write_text(str(size))
        except OSError as error:
            raise LimitError(f"the environment cannot be kept: {error.strerror}", hint="Make room there.") from error

    def evict(self, used: frozenset[str]) -> list[str]:
        """Remove what was not used for longest, until the rest fits; never what a task uses. Gives the names."""
        ready = [
            (marker.stat().st_mtime, int(marker.read_text() or 0), marker.parent.name)
            for marker in self.folder.glob(f"*/{_MARKER}")
        ]
        total = sum(size for _, size, _ in ready)
        gone = []
        for _, size, name in sorted(ready):
            if total <= self._cache_b:
                break
            if name not in used:
                (self.path(name) / _MARKER).unlink(missing_ok=True)
                shutil.rmtree(self.path(name), ignore_errors=True)
                total -= size
                gone.append(name)
        return gone

    @property
    def devices(self) -> tuple[str, ...]:
        """What the accelerators are called that this agent was given; empty: it has all, by their numbers."""
        return given_devices(self._environ)

    def variables(self, name: str | None) -> dict[str, str]:
        """What the machine gives a task: in the environment `name`, or (None) in the agent's own Python."""
        return self._machine() | self.pinned(name)

    def _machine(self) -> dict[str, str]:
        """Made anew only when a file of pip's changed: reading those takes as long as starting a job."""
        files = pip_files(self._environ)
        mark = [_changed(file) for file in files]
        if self._known is None or self._known[0] != mark:
            result = machine_variables(self._environ) | uv_variables(self._environ, files)
            self._known = mark, result | {"PATH": own_path(self._environ), "PYTHONUNBUFFERED": "1"}
        return dict(self._known[1])

    def pinned(self, name: str | None) -> dict[str, str]:
        """What a job's own variables must not change, for it would leave its environment."""
        if name is None:
            return {}
        path = self.path(name)
        return {"VIRTUAL_ENV": str(path), "PATH": f"{path / 'bin'}{os.pathsep}{own_path(self._environ)}"}


def _changed(file: Path) -> int:
    """When a file was last written; 0 for one that is not there."""
    try:
        return file.stat().st_mtime_ns
    except OSError:
        return 0


def find_uv(environ: Mapping[str, str]) -> str | None:
    """Uv from this program's environment, or from PATH; None if there is none."""
    here = Path(sys.executable).parent / "uv"
    return str(here) if here.is_file() else shutil.which("uv", path=environ.get("PATH"))


def _forward_pip(path: Path, uv: str) -> None:
    for name in ("pip", "pip3"):
        script = path / "bin" / name
        script.write_text(_PIP.format(env=path, uv=uv))
        script.chmod(0o755)
    for packages in path.glob("lib/python*/site-packages"):
        module = packages / "pip"
        module.mkdir(exist_ok=True)
        (module / "__init__.py").write_text("")
        (module / "__main__.py").write_text(_PIP_MODULE.format(uv=uv))
