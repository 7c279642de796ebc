"""A Nexus of one's own for a measurement: a temporary home, free ports, real processes."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from tests.e2e.house import House


@contextmanager
def house(**settings: str) -> Iterator[House]:
    """Up, with an agent that has joined; gone afterwards."""
    with new_house(**settings) as made:
        made.up()
        made.agent_pid()
        yield made


@contextmanager
def new_house(**settings: str) -> Iterator[House]:
    """Not up yet; gone afterwards."""
    home = Path(tempfile.mkdtemp(prefix="nexus-bench-"))
    made = House(home / "home", settings=settings)
    try:
        yield made
    finally:
        made.down()
        shutil.rmtree(home, ignore_errors=True)


def memory_mb(pid: int) -> float:
    """Resident memory of one process."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    raise ProcessLookupError(pid)


def cpu_s(pid: int) -> float:
    """CPU seconds a process has used."""
    numbers = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(numbers[11]) + int(numbers[12])) / os.sysconf("SC_CLK_TCK")


def stop(process: subprocess.Popen[bytes]) -> None:
    """Ask, wait, then insist."""
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def wait_for(text: bytes, path: Path, timeout_s: float = 60.0) -> None:
    """Until `text` stands in a file."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if path.exists() and text in path.read_bytes():
            return
        time.sleep(0.05)
    raise TimeoutError(f"{path} never said {text!r}")
