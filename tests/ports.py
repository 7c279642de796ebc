"""Ports for servers that tests start as processes: free, and held against every other test that runs beside us."""

from __future__ import annotations

import fcntl
import os
import random
import socket
import tempfile
from pathlib import Path

# Below the range from which systems take ports for outgoing connections (Linux 32768+, IANA 49152+): no
# connection of another test can sit on a port between our choice and the server's bind.
_RANGE = range(20_000, 32_000)
_held: list[int] = []  # open lock files; the kernel lets go of them when this process ends


def free_port() -> int:
    """A port nobody listens on, and none of the tests beside us will be given while this process lives."""
    folder = Path(tempfile.gettempdir()) / f"nexus-test-ports-{os.getuid()}"
    folder.mkdir(exist_ok=True)
    draw = random.SystemRandom()
    while True:
        port = draw.choice(_RANGE)
        lock = os.open(folder / str(port), os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        if _lock(lock) and _unused(port):
            _held.append(lock)
            return port
        os.close(lock)


def _lock(lock: int) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _unused(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
