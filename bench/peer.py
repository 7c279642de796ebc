"""Peers to measure against: each in a virtual environment of its own, kept between runs."""

from __future__ import annotations

import hashlib
import os
import resource
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

CACHE = Path(os.environ.get("NEXUS_BENCH_CACHE", Path.home() / ".cache" / "nexus-bench"))


def peer_python(name: str, *requirements: str, system_site_packages: bool = False) -> Path | None:
    """The interpreter of an environment with `requirements`, or None (said on stderr) if they cannot be installed."""
    mark = hashlib.sha256(" ".join(requirements).encode()).hexdigest()[:12]
    home = CACHE / f"{name}-{mark}"
    python = home / "bin" / "python"
    if (home / "ready").exists():
        return python
    shutil.rmtree(home, ignore_errors=True)
    print(f"installing {', '.join(requirements)} ...", file=sys.stderr)
    flags = ["--system-site-packages"] if system_site_packages else []
    uv = shutil.which("uv") or str(Path(sys.executable).parent / "uv")
    steps = [
        [uv, "venv", "-q", *flags, "--python", sys.executable, str(home)],
        [uv, "pip", "install", "-q", "--system-certs", "--python", str(python), *requirements],
    ]
    for step in steps:
        if subprocess.run(step, check=False).returncode:
            print(f"no {name} here: it is left out", file=sys.stderr)
            return None
    (home / "ready").touch()
    return python


@dataclass(frozen=True)
class Figure:
    """Some repetitions of one measurement."""

    values: Sequence[float]

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    def __str__(self) -> str:
        return f"{self.median:.4g} (min {min(self.values):.4g}, max {max(self.values):.4g}, n={len(self.values)})"


def cpu_seconds(command: Sequence[str], repeat: int = 7, env: dict[str, str] | None = None) -> Figure:
    """CPU seconds (user and system) of a whole process, after one run to warm the file cache."""
    values = []
    for turn in range(repeat + 1):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=env)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        if turn:
            values.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return Figure(values)


def wall_seconds(work: Callable[[], object], repeat: int = 7) -> Figure:
    """Wall seconds of a call, after one to warm up."""
    values = []
    for turn in range(repeat + 1):
        start = time.perf_counter()
        work()
        if turn:
            values.append(time.perf_counter() - start)
    return Figure(values)


def report(name: str, text: str) -> None:
    """Print a result, and keep it as `bench/results/<name>.md`."""
    print(text)
    (Path(__file__).parent / "results" / f"{name}.md").write_text(text.rstrip() + "\n")
