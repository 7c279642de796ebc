"""Ways into what runs here: processes beside a task's own, in its environment, and connections to its ports."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from nexus.agent.adapters.home import Home
from nexus.agent.adapters.sessions import kill_marked, signal_marked, signal_session, used_cpu_s
from nexus.agent.adapters.shim.formats import decode_spec, decode_status, start_ticks
from nexus.agent.adapters.variables import machine_variables, own_path
from nexus.agent.adapters.visitors import Process
from nexus.kernel.errors import ConflictError, MissingError, UnavailableError
from nexus.launch.calls import CHUNK_B
from nexus.launch.protocol import CallOrder, TaskOrder

_CONNECT_S = 5.0
_SHELL = "/bin/sh"
# In a container, a visitor is not our child: when its caller goes, it is found by a mark in its environment.
_MARKED = 'export "$0"; exec "$@"'


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a visitor starts: the words that lead there, what it finds in its environment, and its folder."""

    words: tuple[str, ...]
    env: dict[str, str]
    cwd: str
    notes: Path | None  # where running visitors are written down, for an agent that comes after this one


class Inside:
    """Implements `ports.Doors`. `environ` is the machine's own environment."""

    def __init__(self, home: Home, environ: Mapping[str, str] | None = None) -> None:
        self._home = home
        self._environ = os.environ if environ is None else environ

    async def start(self, call: CallOrder, task: TaskOrder | None) -> Process:
        place = self._machine() if task is None else self._task(task, tty=call.tty)
        env = place.env | ({"TERM": call.term or "dumb"} if call.tty else {})
        mark = f"NEXUS_CALL={call.id}" if _SHELL in place.words else ""  # an image may have none
        argv = (*place.words, *((_SHELL, "-c", _MARKED, mark) if mark else ()), *call.argv)
        try:
            if call.tty:
                return await Process.on_terminal(argv, env, place.cwd, place.notes, mark, (call.rows, call.columns))
            return await Process.on_pipes(argv, env, place.cwd, place.notes, mark)
        except OSError as error:
            raise MissingError(
                f"no process can be started on this node: {error.strerror or error}", hint="Is the machine full?"
            ) from error

    async def connect(self, call: CallOrder, task: TaskOrder) -> TcpConnection:
        for host in ("127.0.0.1", "::1"):
            with contextlib.suppress(OSError, TimeoutError):
                async with asyncio.timeout(_CONNECT_S):
                    return TcpConnection(*await asyncio.open_connection(host, call.port, limit=2 * CHUNK_B))
        raise ConflictError(
            f"nothing listens on port {call.port} of {task.role}.{task.index}",
            hint="Has the program opened it yet? Its log: nexus logs RUN",
        )

    async def leave(self, task: TaskOrder) -> None:
        home = self._home.task(task)
        if (home.path / "visitors").exists():
            marker = decode_spec((home.job / "spec").read_bytes())["marker"][0]
            await asyncio.to_thread(kill_marked, marker)

    def used_cpu_s(self, task: TaskOrder) -> float | None:
        """Of all its processes until now, for `ports.UsedCpu`."""
        job = self._home.task(task).job
        try:
            enter = decode_spec((job / "spec").read_bytes()).get("enter", [])
            status = decode_status((job / "claim").read_bytes())
        except FileNotFoundError:
            return None
        if enter and Path(enter[0]).name == "docker":
            return None  # its processes are the engine's children, not ours
        return used_cpu_s(int(status.get("shim") or 0))

    def sweep(self) -> None:
        """End the visitors of an agent that was killed: nobody hears them any more."""
        for note in self._home.tasks.glob("*/visitors/*"):
            ticks, _, mark = note.read_text().partition(" ")
            if start_ticks(int(note.name)) == ticks:
                signal_session(int(note.name), signal.SIGKILL)
            if mark:
                signal_marked(mark, signal.SIGKILL)
            note.unlink(missing_ok=True)

    def _task(self, order: TaskOrder, *, tty: bool) -> _Place:
        """As its process was started: what the shim left on disk is the truth, also for an agent that came later."""
        home = self._home.task(order)
        try:
            spec = decode_spec((home.job / "spec").read_bytes())
            status = decode_status((home.job / "claim").read_bytes())
        except FileNotFoundError as error:
            raise ConflictError("the task has no process yet", hint="Try again when it runs.") from error
        words = spec.get("enter_tty" if tty else "enter", [])
        return _Place(tuple(words), _variables(spec, status, order), spec["cwd"][0], home.path / "visitors")

    def _machine(self) -> _Place:
        env = machine_variables(self._environ) | {"PATH": own_path(self._environ)}
        return _Place((), env, env.get("HOME", "/"), None)


def _variables(spec: dict[str, list[str]], status: dict[str, str], order: TaskOrder) -> dict[str, str]:
    """What the task's process found. Its secrets do not stay on the disk: they are read where the process has them."""
    job = int(status.get("job") or 0)
    if job and start_ticks(job) == status.get("job_start"):
        with contextlib.suppress(OSError):
            found = os.fsdecode(Path(f"/proc/{job}/environ").read_bytes()).split("\0")
            if spec["marker"][0] in found:  # else it has written its title over them
                return dict(pair.split("=", 1) for pair in found if "=" in pair)
    token = {"NEXUS_TOKEN": order.token} if order.token else {}
    return dict(pair.split("=", 1) for pair in spec["env"]) | order.secrets | token


class TcpConnection:
    """Implements `ports.Connection`."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def read(self) -> bytes:
        try:
            return await self._reader.read(CHUNK_B)
        except OSError as error:
            raise UnavailableError(f"the task's side has cut the connection: {error.strerror or error}") from error

    async def write(self, data: bytes) -> None:
        try:
            self._writer.write(data)
            await self._writer.drain()
        except (OSError, RuntimeError) as error:
            raise UnavailableError(f"the task's side has cut the connection: {error}") from error

    def end(self) -> None:
        with contextlib.suppress(OSError, RuntimeError):
            self._writer.write_eof()

    def close(self) -> None:
        self._writer.transport.abort() if self._writer.is_closing() else self._writer.close()
