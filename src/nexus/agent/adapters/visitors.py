"""A process that was started for a call: on pipes, or on a terminal of its own."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import struct
from pathlib import Path

from nexus.agent.adapters.sessions import signal_marked, signal_visitor
from nexus.agent.adapters.shim.formats import start_ticks
from nexus.launch.calls import CHUNK_B, Part

_GRACE_S = 2.0  # between HUP and KILL
# The folder, and (with a terminal) the terminal: a session's leader that opens one gets it as its own. The words of
# the command follow as they are; nothing of them is read as shell.
_ENTER = 'cd -- "$1" && shift && exec "$@"'
_ENTER_TTY = 'exec 0<>"$0" 1>&0 2>&0 && ' + _ENTER


class Process:
    """Implements `ports.Visitor`: a process that leads a session of its own."""

    def __init__(
        self,
        process: _Spawned,
        reading: dict[Part, asyncio.StreamReader],
        writing: asyncio.StreamWriter | None,
        terminal: _Terminal | None,
        note: Path | None,
        mark: str,
    ) -> None:
        self._process = process
        self._reading = reading
        self._writing = writing
        self._terminal = terminal
        self._note = note
        self._mark = mark
        self._ending = asyncio.ensure_future(self._end())

    @classmethod
    async def on_pipes(
        cls, argv: tuple[str, ...], env: dict[str, str], cwd: str, notes: Path | None, mark: str
    ) -> Process:
        """`mark`: what is in the environment of those processes that are not of our session. Raises OSError."""
        process = await _spawn(("sh", cwd, *argv), _ENTER, env, asyncio.subprocess.PIPE)
        streams = asyncio.subprocess.Process(process.transport, process, asyncio.get_running_loop())
        assert streams.stdout is not None  # noqa: S101 (a pipe was asked for)
        assert streams.stderr is not None  # noqa: S101
        reading = {Part.OUT: streams.stdout, Part.ERR: streams.stderr}
        return cls(process, reading, streams.stdin, None, _noted(notes, process.pid, mark), mark)

    @classmethod
    async def on_terminal(
        cls,
        argv: tuple[str, ...],
        env: dict[str, str],
        cwd: str,
        notes: Path | None,
        mark: str,
        size: tuple[int, int],
    ) -> Process:
        """Raises OSError."""
        terminal = _Terminal(size)
        try:
            process = await _spawn((terminal.name, cwd, *argv), _ENTER_TTY, env, asyncio.subprocess.DEVNULL)
            reader, writer = await terminal.open()
        except BaseException:
            terminal.close()
            raise
        return cls(process, {Part.OUT: reader}, writer, terminal, _noted(notes, process.pid, mark), mark)

    @property
    def outputs(self) -> tuple[Part, ...]:
        return tuple(self._reading)

    async def read(self, output: Part) -> bytes:
        try:
            return await self._reading[output].read(CHUNK_B)
        except OSError:  # how a terminal says that nobody has it open any more
            return b""

    async def write(self, data: bytes) -> None:
        if self._writing is None:
            return
        try:
            self._writing.write(data)
            await self._writing.drain()
        except (OSError, RuntimeError):
            self._writing = None

    def end_input(self) -> None:
        if self._terminal is None and self._writing is not None:
            self._writing.close()
            self._writing = None

    def resize(self, rows: int, columns: int) -> None:
        if self._terminal is not None:
            self._terminal.resize(rows, columns)

    def signal(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, number)
        if self._mark:
            signal_marked(self._mark, number)

    async def wait(self) -> int:
        return await asyncio.shield(self._ending)

    async def hang_up(self) -> None:
        """A process that has ended by itself leaves what it put in the background to the task."""
        try:
            if not self._ending.done():
                for number in (signal.SIGHUP, signal.SIGCONT):
                    signal_visitor(self._process.pid, self._mark, number)
                await asyncio.wait([self._ending], timeout=_GRACE_S)
                signal_visitor(self._process.pid, self._mark, signal.SIGKILL)
                await self._ending
        finally:
            if self._terminal is not None:
                self._terminal.close()
            if self._writing is not None:
                self._writing.close()
            self._process.transport.close()
            if self._note is not None:
                self._note.unlink(missing_ok=True)

    async def _end(self) -> int:
        code = await self._process.exited
        if self._terminal is not None:
            self._terminal.release()
        return code


class _Terminal:
    """A pseudo-terminal: our end, and the one that the process opens by its name."""

    def __init__(self, size: tuple[int, int]) -> None:
        self._ours, self._theirs = os.openpty()
        self.name = os.ttyname(self._theirs)
        self._closing: list[asyncio.BaseTransport] = []
        self.resize(*size)

    async def open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        loop = asyncio.get_running_loop()
        os.set_blocking(self._ours, False)
        reader = asyncio.StreamReader(limit=CHUNK_B)
        protocol = asyncio.StreamReaderProtocol(reader)
        to_read = os.fdopen(os.dup(self._ours), "rb", buffering=0)
        reading, _ = await loop.connect_read_pipe(lambda: protocol, to_read)
        to_write = os.fdopen(os.dup(self._ours), "wb", buffering=0)
        writing, writing_protocol = await loop.connect_write_pipe(asyncio.streams.FlowControlMixin, to_write)
        self._closing = [reading, writing]
        return reader, asyncio.StreamWriter(writing, writing_protocol, None, loop)

    def resize(self, rows: int, columns: int) -> None:
        import fcntl
        import termios

        with contextlib.suppress(OSError):
            fcntl.ioctl(self._ours, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def release(self) -> None:
        """The process has ended: what others of its session leave open alone keeps the terminal going."""
        if self._theirs >= 0:
            os.close(self._theirs)
            self._theirs = -1

    def close(self) -> None:
        self.release()
        for transport in self._closing:
            transport.close()
        if self._ours >= 0:
            os.close(self._ours)
            self._ours = -1


class _Spawned(asyncio.subprocess.SubprocessStreamProtocol):
    """A process whose end is known at once: asyncio's own `wait` also waits for its pipes, which a child may hold."""

    transport: asyncio.SubprocessTransport

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(limit=CHUNK_B, loop=loop)
        self.exited: asyncio.Future[int] = loop.create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        assert isinstance(transport, asyncio.SubprocessTransport)  # noqa: S101 (what the loop gives)
        self.transport = transport

    @property
    def pid(self) -> int:
        return self.transport.get_pid()

    def process_exited(self) -> None:
        super().process_exited()
        self.exited.set_result(self.transport.get_returncode() or 0)


async def _spawn(words: tuple[str, ...], script: str, env: dict[str, str], pipe: int) -> _Spawned:
    """`sh -c script words`: the first word is the script's `$0`."""
    loop = asyncio.get_running_loop()
    _, spawned = await loop.subprocess_exec(
        lambda: _Spawned(loop),
        "/bin/sh",
        "-c",
        script,
        *words,
        stdin=pipe,
        stdout=pipe,
        stderr=pipe,
        env=env,
        start_new_session=True,
    )
    return spawned


def _noted(notes: Path | None, pid: int, mark: str) -> Path | None:
    """Write down that it runs, so that an agent that is started after this one was killed finds it."""
    if notes is None:
        return None
    note = notes / str(pid)
    with contextlib.suppress(OSError):
        notes.mkdir(mode=0o700, exist_ok=True)
        note.write_text(f"{start_ticks(pid)} {mark}")
    return note
