"""Small tasks and a way to run them as real processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import msgspec

from nexus.federate.model import Round
from tests.ports import free_port

REPOSITORY = Path(__file__).parents[2]
APP = REPOSITORY / "examples" / "federated" / "app.py"
SMALL = Path(__file__).parent / "small_app.py"


def until(ready: Callable[[], object], seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not ready():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.02)


class Process(Protocol):
    pid: int

    def poll(self) -> int | None: ...

    def wait(self, timeout: float) -> int: ...


def spawned(arguments: list[str], env: dict[str, str], home: Path, log: int) -> Process:
    command = [sys.executable, "-m", "nexus.federate.run", *arguments]
    return subprocess.Popen(command, env=env, stdout=log, stderr=subprocess.STDOUT, cwd=home)


class Forked:
    """A child of `os.fork`, as `Process`."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.code: int | None = None

    def poll(self) -> int | None:
        if self.code is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.code = os.waitstatus_to_exitcode(status)
        return self.code

    def wait(self, timeout: float) -> int:
        until(lambda: self.poll() is not None, timeout)
        assert self.code is not None
        return self.code


def forked(arguments: list[str], env: dict[str, str], home: Path, log: int) -> Process:
    from nexus.federate.run import main

    pid = os.fork()
    if pid:
        return Forked(pid)
    code = 70
    try:
        os.dup2(log, 1)
        os.dup2(log, 2)
        sys.stdout = os.fdopen(1, "w", buffering=1, closefd=False)
        sys.stderr = os.fdopen(2, "w", buffering=1, closefd=False)
        os.environ.clear()
        os.environ.update(env)
        os.chdir(home)
        code = main(arguments)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        os._exit(code)


@dataclass
class Silos:
    """One server and some clients as processes on loopback, as an agent would start them."""

    folder: Path
    changes: tuple[str, ...] = ()
    count: int = 3
    sites: tuple[str, ...] = ()  # instead of that many clients
    env: dict[str, str] = field(default_factory=dict)
    address: str = "127.0.0.1"  # where the clients are told to look for the server
    app: Path = SMALL
    delay_s: float = 0.0  # of each client's turn
    token: str = "a-token-of-this-run"
    port: int = field(default_factory=free_port)
    fork: bool = True  # from this process, which has torch already: a real process in milliseconds
    processes: dict[str, Process] = field(default_factory=dict)

    def start(self, role: str, index: int = 0) -> None:
        name = f"{role}-{index}"
        home = self.folder / name
        home.mkdir(parents=True, exist_ok=True)
        address = self.address if role != "server" else "127.0.0.1"
        env = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(REPOSITORY / "src"),
            "OMP_NUM_THREADS": "1",
            "NEXUS_ROLE": role,
            "NEXUS_INDEX": str(index),
            "NEXUS_NUM_NODES": str(1 if role == "server" else self.count),
            "NEXUS_NODE_ADDRS": "127.0.0.1",
            "NEXUS_PEERS": f'[{{"role":"server","index":0,"address":"{address}","ports":{{"federate":{self.port}}}}}]',
            "NEXUS_TOKEN": self.token,
            "NEXUS_CHECKPOINTS": str(home / "checkpoints"),
            "NEXUS_OUTPUTS": str(home / "outputs"),
            "NEXUS_TEST_DELAY_S": str(self.delay_s),
            **self.env,
        }
        sets = [part for change in self.changes for part in ("--set", change)]
        who = ["--sites", ",".join(self.sites)] if self.sites else ["--hosts", str(self.count)]
        arguments = [*who, *sets, str(self.app)]
        with (home / "log").open("ab") as log:
            start = forked if self.fork else spawned
            self.processes[name] = start(arguments, env, home, log.fileno())

    def start_all(self) -> None:
        self.start("server")
        for site in self.sites:
            self.start(site)
        for index in range(0 if self.sites else self.count):
            self.start("client", index)

    def wait(self, name: str, seconds: float = 90.0) -> int:
        return self.processes[name].wait(seconds)

    def kill(self, name: str) -> None:
        os.kill(self.processes[name].pid, signal.SIGKILL)
        self.processes[name].wait(30)

    def log(self, name: str) -> str:
        path = self.folder / name / "log"
        return path.read_text() if path.exists() else ""

    @property
    def outputs(self) -> Path:
        return self.folder / "server-0" / "outputs"

    @property
    def journal(self) -> Path:
        return self.folder / "server-0" / "checkpoints" / "federate"

    def rounds(self) -> list[Round]:
        path = self.journal / "rounds.jsonl"
        lines = path.read_bytes().splitlines() if path.exists() else []
        return [msgspec.json.decode(line, type=Round) for line in lines]

    def updates(self) -> list[Path]:
        """The accepted updates of the open round."""
        return list(self.journal.glob("round-*/update-*.safetensors"))

    def close(self) -> None:
        for process in self.processes.values():
            if process.poll() is None:
                os.kill(process.pid, signal.SIGKILL)
                process.wait(30)
