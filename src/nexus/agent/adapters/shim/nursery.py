"""The nursery: forks a shim in a millisecond, where a new interpreter would take ten.

    python -I -S start.py HOME      its standard input is a socket to the agent

The agent sends a spec's path, ended by NUL; the answer is the new shim's process id and when it began, ended by a
newline. The nursery ends with the agent, or when nobody has asked for a while; its shims, each in a session of its own,
do not notice.
"""

from __future__ import annotations

import os
import select
import signal
import sys

from .formats import start_ticks
from .watch import main as watch

IDLE_S = 60.0
_SUBREAPER = 36  # PR_SET_CHILD_SUBREAPER of prctl(2)
_SOCKET = 0

try:
    from ctypes import CDLL
except ImportError:  # a Python without it: orphans are then found by their session and their mark
    CDLL = None  # type: ignore[assignment, misc]


def serve() -> int:
    """Fork what is asked for until the agent is gone."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for shims: what they say is on disk
    signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGTERM, signal.SIGINT))  # until a shim can heed them
    asked = b""
    while select.select([_SOCKET], [], [], IDLE_S)[0]:
        came = os.read(_SOCKET, 65536)
        if not came:
            break
        *specs, asked = (asked + came).split(b"\0")
        for spec in specs:
            pid = os.fork()
            if pid == 0:
                _be_shim(spec)
            os.write(_SOCKET, f"{pid} {start_ticks(pid)}\n".encode())
    return 0


def _be_shim(spec: bytes) -> None:
    code = 1
    try:
        os.setsid()
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        null = os.open("/dev/null", os.O_RDONLY)
        place = os.path.dirname(spec)  # noqa: PTH120
        err = os.open(os.path.join(place, b"shim.err"), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)  # noqa: PTH118
        os.dup2(err, 2)
        os.close(err)
        os.dup2(null, _SOCKET)
        os.close(null)
        code = watch(os.fsdecode(spec), adopts=_adopt_orphans())
    except BaseException:  # this process must not go on as a second nursery
        sys.excepthook(*sys.exc_info())
    finally:
        os._exit(code)


def _adopt_orphans() -> bool:
    """Become the parent of whatever the job leaves behind, so that nothing of it can hide."""
    if CDLL is None or not sys.platform.startswith("linux"):
        return False
    return bool(CDLL(None).prctl(_SUBREAPER, 1, 0, 0, 0) == 0)
