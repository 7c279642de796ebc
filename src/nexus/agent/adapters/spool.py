"""What tasks wrote, on this machine's disk, until the server has it."""

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
import stat
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path, PurePosixPath
from typing import BinaryIO

import msgspec

from nexus.agent.adapters.home import Home, TaskHome
from nexus.agent.adapters.launcher import LOG_CAP_B
from nexus.agent.adapters.packages import pack
from nexus.agent.adapters.shim.spool import LogSpool, segment_starts
from nexus.agent.adapters.workspace import safe_below
from nexus.agent.model import LOG, Parcel
from nexus.kernel.logframes import parse
from nexus.launch.protocol import TaskOrder
from nexus.track import frames

_CHUNK_B = 1024 * 1024
_OWN = "m-agent-"  # begins the names of streams that this program writes, in a folder where no job may
_Roots = tuple[Path, ...]  # below which what a job names must lie; none: anywhere, as the job could read it itself


class _Request(msgspec.Struct):
    """What the SDK writes into `artifact-*.json`."""

    name: str
    path: str
    kind: str = "artifact"
    meta: dict[str, str] = {}
    copied: bool = False


class DiskSpool:
    """Implements `ports.Spool` on the folders of the agent's home."""

    def __init__(self, home: Home) -> None:
        self._home = home
        # New each time: an earlier agent's may end in half a frame.
        self._own = f"{_OWN}{os.urandom(6).hex()}.bin"
        self._parcels: dict[Path, Parcel] = {}  # of copies, which do not change: read once, however often it is tried

    def say(self, order: TaskOrder, text: str) -> None:
        home = self._home.task(order)
        home.make()
        log = LogSpool(str(home.log), LOG_CAP_B)
        try:
            for line in text.splitlines():
                log.add(b"n", line.encode("utf-8", "replace"))
        finally:
            log.close()
            self._home.poke(home)

    def ends(self, order: TaskOrder) -> dict[str, int]:
        home = self._home.task(order)
        result = {LOG: _log_end(home.log)}
        for folder, is_ours in ((home.spool, False), (home.path / "system", True)):
            try:
                with os.scandir(folder) as entries:
                    for entry in entries:
                        name = entry.name
                        is_stream = name.startswith("m-") and name.endswith(".bin") and name.startswith(_OWN) == is_ours
                        if is_stream and entry.is_file(follow_symlinks=False):
                            result[name] = entry.stat().st_size
            except FileNotFoundError:
                continue
        return result

    def record(self, order: TaskOrder, values: Mapping[str, float], step: int) -> None:
        """Add what was measured of the task to its metrics. Raises OSError if the disk is full."""
        folder = self._home.task(order).path / "system"
        folder.mkdir(mode=0o700, exist_ok=True)
        now = time.time()  # noqa: TID251 (the time of a metric, as the SDK takes it)
        with (folder / self._own).open("ab") as file:
            for frame in frames.write_points(list(values), [step], [now], [[value] for value in values.values()]):
                file.write(frame)

    def read(self, order: TaskOrder, stream: str, offset: int, limit_b: int) -> bytes:
        home = self._home.task(order)
        if stream != LOG:
            folder = home.path / "system" if stream.startswith(_OWN) else home.spool
            return _read(folder / stream, offset, limit_b)
        starts = [start for start in _starts(home.log) if start <= offset]
        return _read(home.log / f"{starts[-1]:016d}", offset - starts[-1], limit_b) if starts else b""

    def free(self, order: TaskOrder, stream: str, offset: int) -> None:
        """Whole segments of the log that the server has. Metrics stay until the task goes: they are small."""
        if stream != LOG:
            return
        home = self._home.task(order)
        starts = _starts(home.log)
        for start, following in pairwise(starts):
            if following <= offset:
                (home.log / f"{start:016d}").unlink(missing_ok=True)

    def tail(self, order: TaskOrder, count: int) -> str:
        """The last lines of the log, for people."""
        home = self._home.task(order)
        end = _log_end(home.log)
        raw = self.read(order, LOG, max(0, end - 16_384), 16_384).split(b"\n")[:-1]
        return "\n".join(parse(line).text for line in raw[-count:])

    async def requests(self, order: TaskOrder) -> Sequence[Parcel]:
        home = self._home.task(order)
        found = []
        for file in _request_files(home.spool):
            parcel = self._parcels.get(file) or await asyncio.to_thread(_read_request, home, file, self._roots(order))
            if parcel is None:
                file.replace(file.with_suffix(".failed"))
                continue
            if Path(parcel.path).is_relative_to(home.spool):
                self._parcels[file] = parcel
            found.append(parcel)
        return found

    async def outputs(self, order: TaskOrder) -> Sequence[Parcel]:
        home = self._home.task(order)
        found = []
        for name in order.outputs:
            source = safe_below(home.work, name)
            if source is None:
                self.say(order, f"warning: the output {name} is not there, so it is not kept")
            else:
                request = _Request(name=_artifact_name(name), path=name)
                found.append(await asyncio.to_thread(_parcel, home, source, request, name))
        if any(home.outputs.iterdir()):
            request = _Request(name="outputs", path="")
            found.append(await asyncio.to_thread(_parcel, home, home.outputs, request, "outputs"))
        return found

    def _roots(self, order: TaskOrder) -> _Roots:
        """An enclosed task cannot have us read for it what it may not read."""
        home = self._home.task(order)
        if not any((home.path / sign).exists() for sign in ("private", "image")):
            return ()
        return (home.work, home.outputs, home.spool, self._home.run_checkpoints(order))

    async def open(self, order: TaskOrder, parcel: Parcel) -> AsyncIterator[bytes]:
        with _content(self._home.task(order), parcel).open("rb") as file:
            while chunk := await asyncio.to_thread(file.read, _CHUNK_B):
                yield chunk

    def done(self, order: TaskOrder, parcel: Parcel) -> None:
        home = self._home.task(order)
        if parcel.packed:
            _content(home, parcel).unlink(missing_ok=True)
        request = home.spool / parcel.key
        if request.suffix == ".json":
            self._parcels.pop(request, None)
            request.unlink(missing_ok=True)
            shutil.rmtree(request.with_suffix(".d"), ignore_errors=True)


def _artifact_name(output: str) -> str:
    """`model/` and `./model` are kept as `model`, the whole workspace as `workspace`."""
    name = PurePosixPath(output).as_posix()
    return "workspace" if name == "." else name


def _starts(folder: Path) -> list[int]:
    try:
        return segment_starts(str(folder))
    except FileNotFoundError:
        return []


def _log_end(folder: Path) -> int:
    starts = _starts(folder)
    return starts[-1] + (folder / f"{starts[-1]:016d}").stat().st_size if starts else 0


def _read(path: Path, offset: int, limit_b: int) -> bytes:
    try:
        with _plain(path) as file:
            return os.pread(file.fileno(), limit_b, offset)
    except OSError:
        return b""


def _plain(path: Path) -> BinaryIO:
    """A file that a job made: a link or a pipe in its place is none. Raises OSError."""
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise FileNotFoundError(f"{path} is no file")
    return os.fdopen(fd, "rb")


def _request_files(folder: Path) -> list[Path]:
    try:
        names = [name for name in os.listdir(folder) if name.startswith("artifact-") and name.endswith(".json")]  # noqa: PTH208
    except FileNotFoundError:
        return []
    return [folder / name for name in sorted(names)]


def _read_request(home: TaskHome, file: Path, roots: _Roots) -> Parcel | None:
    """What the job asked to keep; None if it cannot be read."""
    try:
        with _plain(file) as content:
            request = msgspec.json.decode(content.read(), type=_Request)
        source = home.work / request.path
        if roots:
            source = Path(os.path.realpath(source))
            if not any(source.is_relative_to(os.path.realpath(root)) for root in roots):
                return None
        return _parcel(home, source, request, file.name)
    except (msgspec.DecodeError, OSError):
        return None


def _parcel(home: TaskHome, source: Path, request: _Request, key: str) -> Parcel:
    """The source ready to be sent: a folder is packed, a file stays where it is."""
    is_folder = source.is_dir()
    content = source
    if is_folder:
        content = home.parcels / (hashlib.sha256(key.encode()).hexdigest()[:16] + ".package")
        home.parcels.mkdir(mode=0o700, exist_ok=True)
        pack(source, content)
    digest, size = _digest(content)
    return Parcel(
        key=key,
        name=request.name,
        digest=digest,
        size_b=size,
        path=str(source),
        packed=is_folder,
        kind=request.kind,
        meta=request.meta,
    )


def _content(home: TaskHome, parcel: Parcel) -> Path:
    if parcel.packed:
        return home.parcels / (hashlib.sha256(parcel.key.encode()).hexdigest()[:16] + ".package")
    return Path(parcel.path)


def _digest(path: Path) -> tuple[str, int]:
    found, size = hashlib.sha256(), 0
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_B):
            found.update(chunk)
            size += len(chunk)
    return found.hexdigest(), size
