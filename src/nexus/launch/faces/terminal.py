"""A remote process on this terminal: bytes both ways, the window's size, signals, and the exit code."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator

from nexus.infra.http_client import HttpClient
from nexus.infra.websocket import WebSocket
from nexus.kernel.errors import NexusError, UnavailableError
from nexus.launch.calls import CHUNK_B, Call, Part, message, read_exit, size_message
from nexus.launch.faces.calling import attach, beat, heard

_PIPE_CLOSED = 128 + signal.SIGPIPE
_FILES = {Part.OUT: 1, Part.ERR: 2}


def window() -> tuple[int, int]:
    """Rows and columns of this terminal, as it is and not as COLUMNS says; 24 and 80 without one."""
    for fd in (0, 1, 2):
        with contextlib.suppress(OSError):
            size = os.get_terminal_size(fd)
            return size.lines, size.columns
    return 24, 80


def run_here(http: HttpClient, call: Call, *, tty: bool, with_input: bool) -> int:
    """Join the call with this process's standard streams until it is over; the exit code as shells tell it.

    Raises NexusError when the call fails.
    """
    with _raw(on=tty and sys.stdin.isatty()):
        return asyncio.run(_run(http, call, tty=tty, with_input=with_input))


async def _run(http: HttpClient, call: Call, *, tty: bool, with_input: bool) -> int:
    socket = await attach(http, call)
    here = _Here(socket)
    showing = asyncio.ensure_future(here.show())
    stopped = here.listen(tty=tty)
    beating = asyncio.ensure_future(beat(socket))
    try:
        if with_input:
            threading.Thread(target=here.read_input, args=(asyncio.get_running_loop(),), daemon=True).start()
        else:
            await socket.send(message(Part.IN_END))
        await asyncio.wait([showing, stopped], return_when=asyncio.FIRST_COMPLETED)
        return showing.result() if showing.done() else stopped.result()
    finally:
        showing.cancel()
        beating.cancel()
        await asyncio.gather(showing, beating, return_exceptions=True)
        await socket.close()


class _Here:
    """This side of a call."""

    def __init__(self, socket: WebSocket) -> None:
        self._socket = socket
        self._saying: set[asyncio.Task[None]] = set()
        self._interrupts = 0

    async def show(self) -> int:
        """Write what comes, until the process has ended; its exit code."""
        while True:
            part, data = await heard(self._socket)
            if part is Part.EXIT:
                code = read_exit(data)
                return code if code >= 0 else 128 - code
            if part in _FILES:
                try:
                    await asyncio.to_thread(_write, _FILES[part], data)
                except BrokenPipeError:
                    return _PIPE_CLOSED

    def read_input(self, loop: asyncio.AbstractEventLoop) -> None:
        """In a thread of its own: standard input may be a file, a pipe or a terminal."""
        with contextlib.suppress(OSError, RuntimeError, NexusError, asyncio.CancelledError):
            while data := os.read(0, CHUNK_B):
                asyncio.run_coroutine_threadsafe(self._socket.send(message(Part.IN, data)), loop).result()
            asyncio.run_coroutine_threadsafe(self._socket.send(message(Part.IN_END)), loop).result()

    def listen(self, *, tty: bool) -> asyncio.Future[int]:
        """Pass on signals; the future is the exit code once one of them says to leave."""
        loop = asyncio.get_running_loop()
        leave: asyncio.Future[int] = loop.create_future()

        def interrupted() -> None:
            self._interrupts += 1
            if self._interrupts > 1 and not leave.done():  # it does not heed the first
                leave.set_result(128 + signal.SIGINT)
            self._say(message(Part.SIGNAL, bytes((signal.SIGINT,))))

        def ended(number: int) -> None:
            if not leave.done():
                leave.set_result(128 + number)

        loop.add_signal_handler(signal.SIGINT, interrupted)
        for number in (signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(number, ended, number)
        if tty:
            loop.add_signal_handler(signal.SIGWINCH, lambda: self._say(size_message(*window())))
        return leave

    def _say(self, said: bytes) -> None:
        async def send() -> None:
            with contextlib.suppress(UnavailableError):
                await self._socket.send(said)

        saying = asyncio.ensure_future(send())
        self._saying.add(saying)
        saying.add_done_callback(self._saying.discard)


def _write(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


@contextlib.contextmanager
def _raw(*, on: bool) -> Iterator[None]:
    """Every key goes to the other side as it is typed; the terminal is as it was afterwards."""
    if not on:
        yield
        return
    import termios
    import tty

    before = termios.tcgetattr(0)
    try:
        tty.setraw(0)
        yield
    finally:
        termios.tcsetattr(0, termios.TCSADRAIN, before)
