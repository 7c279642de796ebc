"""What a person at a terminal sees of a launch: what the machine prepares, then the job's own lines, then its end."""

from __future__ import annotations

import os
import pty
import select
import subprocess
import sys
import time
from pathlib import Path

from tests.e2e.house import House


class Terminal:
    """A command that believes a person looks at it."""

    def __init__(self, house: House, *words: str) -> None:
        self._ours, theirs = pty.openpty()
        environ = {**house.environ, "TERM": "xterm-256color", "COLUMNS": "100", "LINES": "30"}
        environ.pop("NO_COLOR")
        command = [sys.executable, "-m", "nexus", *words]
        self.process = subprocess.Popen(command, env=environ, stdin=theirs, stdout=theirs, stderr=theirs)
        os.close(theirs)
        self.seen = ""

    def until(self, text: str, timeout_s: float = 60.0) -> None:
        """Read until `text` was shown."""
        deadline = time.monotonic() + timeout_s
        while text not in self.seen:
            assert time.monotonic() < deadline, f"{text!r} never came:\n{self.seen}"
            if select.select([self._ours], [], [], 0.2)[0]:
                try:
                    self.seen += os.read(self._ours, 65536).decode("utf-8", "replace")
                except OSError:  # the other end is closed
                    assert text in self.seen, self.seen

    def end(self) -> int:
        code = self.process.wait(60)
        os.close(self._ours)
        return code


def test_a_launch_shows_what_is_prepared_and_then_the_job(standing: House, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    (tmp_path / "job.yaml").write_text(
        "name: slow-setup\nrun: echo trained\n"
        f"setup: |\n  echo installing\n  while [ ! -e {gate} ]; do sleep 0.05; done\n"
    )
    terminal = Terminal(standing, "launch", str(tmp_path / "job.yaml"))
    terminal.until("slow-setup: preparing")
    terminal.until("installing")
    gate.touch()
    terminal.until("slow-setup succeeded")
    assert terminal.end() == 0
    assert terminal.seen.index("installing") < terminal.seen.index("trained")
