"""The agent's end of the nursery: asks for a shim, and starts the nursery when there is none."""

from __future__ import annotations

import os
import signal
import socket
import sys
from pathlib import Path

from nexus.agent.adapters import shim
from nexus.agent.adapters.shim.formats import start_ticks

_START = str(Path(shim.__file__).with_name("start.py"))
_PATIENCE_S = 20.0  # of a machine under load, for a fork


class Nursery:
    """Forks shims. `home` marks the process as this agent's."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self._pid = 0
        self._socket: socket.socket | None = None

    def fork(self, spec: Path) -> tuple[int, str]:
        """A new shim for this spec: its process id, and when it began. Raises OSError."""
        for again in (True, False):
            talk = self._socket or self._start()
            try:
                talk.sendall(os.fsencode(spec) + b"\0")
                return _answer(talk)
            except OSError:
                # It has ended, as it does when idle. Should it have forked all the same, a second shim does no harm.
                self.close()
                if not again:
                    raise
        raise AssertionError  # the loop returns or raises

    def close(self) -> None:
        """Let the nursery end; its shims go on."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None
        if self._pid:
            try:
                os.kill(self._pid, signal.SIGKILL)
                os.waitpid(self._pid, 0)
            except (ProcessLookupError, ChildProcessError):
                pass
            self._pid = 0

    def _start(self) -> socket.socket:
        """It gets nothing of this process: no variables (tokens!), no open files, no terminal."""
        ours, theirs = socket.socketpair()
        ours.settimeout(_PATIENCE_S)
        actions = [
            (os.POSIX_SPAWN_DUP2, theirs.fileno(), 0),
            (os.POSIX_SPAWN_OPEN, 1, "/dev/null", os.O_WRONLY, 0),
            (os.POSIX_SPAWN_OPEN, 2, "/dev/null", os.O_WRONLY, 0),
        ]
        argv = [sys.executable, "-I", "-S", _START, str(self._home)]
        try:
            self._pid = os.posix_spawn(sys.executable, argv, {}, file_actions=actions, setsid=True)
        except OSError:
            ours.close()
            raise
        finally:
            theirs.close()
        self._socket = ours
        return ours


def _answer(talk: socket.socket) -> tuple[int, str]:
    said = b""
    while not said.endswith(b"\n"):
        part = talk.recv(64)
        if not part:
            raise ConnectionResetError("the nursery has ended")
        said += part
    pid, began = said.split(b" ")
    return int(pid), began.strip().decode()


def is_alive(pid: int, began: str) -> bool:
    """Whether the process that began then is still there."""
    return bool(began) and start_ticks(pid) == began
