"""A whole Nexus as a user has it: real processes, real sockets, a home of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from nexus.app.home import Home
from nexus.infra.http_client import HttpClient
from tests.ports import free_port

T = TypeVar("T")
REPOSITORY = Path(__file__).parent.parent.parent


def until(ready: Callable[[], T | None], what: str, timeout_s: float = 60.0) -> T:
    """Poll until `ready` gives something; fail by name when it does not."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if found := ready():
            return found
        time.sleep(0.05)
    raise AssertionError(f"{what} did not happen in {timeout_s} s")


@dataclass
class House:
    """One home; its server and agent can be started, killed and started again."""

    home: Path
    settings: dict[str, str] = field(default_factory=dict)
    port: int = field(default_factory=free_port)
    gateway_port: int = field(default_factory=free_port)
    server: subprocess.Popen[bytes] | None = None
    client: HttpClient | None = None

    @property
    def environ(self) -> dict[str, str]:
        """What every process of this house is started with."""
        base = {name: value for name, value in os.environ.items() if not name.startswith("NEXUS_")}
        return base | {
            "NEXUS_HOME": str(self.home),
            "NEXUS_PORT": str(self.port),
            "NEXUS_GATEWAY_PORT": str(self.gateway_port),
            "NEXUS_HEARTBEAT": "1",
            "NO_COLOR": "1",
            "OMP_NUM_THREADS": "1",
            **self.settings,
        }

    @property
    def url(self) -> str:
        host = self.settings.get("NEXUS_HOST", "127.0.0.1")
        return f"http://[{host}]:{self.port}" if ":" in host else f"http://{host}:{self.port}"

    @property
    def http(self) -> HttpClient:
        """The API, as this machine's owner."""
        if self.client is None:
            login = Home(self.home).login()
            assert login, "the server has left no login"
            self.client = HttpClient(self.url, login["token"])
        return self.client

    def up(self, *, agent: bool = True) -> None:
        """Start the server (and its agent) and wait until it answers."""
        self.home.mkdir(parents=True, exist_ok=True)
        if self.server:
            self.server.wait(30)  # the last one has ended, or this fails by name
        command = [sys.executable, "-m", "nexus", "up", "--agent" if agent else "--no-agent"]
        with (self.home / "up.log").open("ab") as log:
            self.server = subprocess.Popen(command, env=self.environ, stdout=log, stderr=log, start_new_session=True)
        until(self._answers, "the server's first answer")

    def _answers(self) -> bool:
        assert self.server
        assert self.server.poll() is None, (self.home / "up.log").read_text()[-3000:]
        if Home(self.home).server() is None:
            return False
        try:
            self.http.get("/healthz", dict[str, str])
        except Exception:  # not yet
            return False
        return True

    def kill_server(self) -> None:
        """SIGKILL: no goodbye."""
        assert self.server
        self.server.kill()
        self.server.wait()

    def agent_pid(self) -> int:
        """The process id of the local agent."""
        return until(self._agent_pid, "the agent's start")

    def _agent_pid(self) -> int | None:
        for folder in Path("/proc").iterdir():
            if not folder.name.isdigit():
                continue
            try:
                words = (folder / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if b"nexus.agent" in words and str(self.home / "agent").encode() in words:
                return int(folder.name)
        return None

    def kill_agent(self) -> int:
        """SIGKILL the agent; the tasks' shims live on."""
        pid = self.agent_pid()
        os.kill(pid, signal.SIGKILL)
        until(lambda: not Path(f"/proc/{pid}/cmdline").exists() or _is_zombie(pid), "the agent's end")
        return pid

    def run(self, *arguments: str, check: bool = True, timeout_s: float = 120.0, cwd: Path = REPOSITORY) -> str:
        """A `nexus` command as a person types it; its standard output."""
        done = self.finish(*arguments, timeout_s=timeout_s, cwd=cwd)
        if check:
            assert done.returncode == 0, f"nexus {' '.join(arguments)}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def finish(
        self, *arguments: str, timeout_s: float = 120.0, cwd: Path = REPOSITORY
    ) -> subprocess.CompletedProcess[str]:
        """A `nexus` command with its exit code and both outputs."""
        return subprocess.run(
            [sys.executable, "-m", "nexus", *arguments],
            env=self.environ,
            cwd=cwd,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
            stdin=subprocess.DEVNULL,
        )

    def json(self, *arguments: str) -> Any:
        """A command with --json, decoded."""
        return json.loads(self.run("--json", *arguments))

    def down(self) -> None:
        """Stop everything, whatever state it is in."""
        if self.client:
            self.client.close()
        if self.server and self.server.poll() is None:
            self.server.send_signal(signal.SIGTERM)
            try:
                self.server.wait(30)
            except subprocess.TimeoutExpired:
                self.server.kill()
                self.server.wait()
        pid = self._agent_pid()
        if pid:
            os.kill(pid, signal.SIGKILL)
        self._kill_what_is_left()

    def _kill_what_is_left(self) -> None:
        """Shims and jobs of this home, so that a failed test leaves nothing behind."""
        mark = str(self.home).encode()
        for folder in Path("/proc").iterdir():
            if folder.name.isdigit() and int(folder.name) != os.getpid():
                try:  # a task names its place in its environment, a shim in its words
                    if mark in (folder / "cmdline").read_bytes() + (folder / "environ").read_bytes():
                        os.kill(int(folder.name), signal.SIGKILL)
                except OSError:
                    continue


def _is_zombie(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
    except OSError:
        return True
