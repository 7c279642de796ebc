"""Real sshds on loopback, each a host of its own: its port, its host key, its folder, and who may log in."""

from __future__ import annotations

import contextlib
import getpass
import os
import shutil
import signal
import socket
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.ports import free_port

SSHD = shutil.which("sshd") or ("/usr/sbin/sshd" if Path("/usr/sbin/sshd").exists() else None)
needs_sshd = pytest.mark.skipif(SSHD is None, reason="sshd is not installed (Debian: openssh-server)")


def make_key(file: Path) -> Path:
    """A new key pair without a passphrase."""
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(file)], check=True)
    return file


@dataclass
class Sshd:
    """One host."""

    place: Path
    port: int = field(default_factory=free_port)
    options: tuple[str, ...] = ()
    process: subprocess.Popen[bytes] | None = None

    def __post_init__(self) -> None:
        self.place.mkdir(parents=True)
        make_key(self.place / "host_key")
        make_key(self.place / "user_key")
        shutil.copy(self.place / "user_key.pub", self.place / "authorized_keys")

    @property
    def folder(self) -> Path:
        """Where Nexus keeps its files on this host: hosts on one machine share a home."""
        return self.place / "nexus"

    @property
    def known_hosts(self) -> str:
        """The line by which a client knows this host."""
        kind, words = (self.place / "host_key.pub").read_text().split()[:2]
        return f"[127.0.0.1]:{self.port} {kind} {words}\n"

    def entry(self, name: str, **more: object) -> dict[str, object]:
        """The host as a fleet's file lists it."""
        return {
            "name": name,
            "host": "127.0.0.1",
            "port": self.port,
            "user": getpass.getuser(),
            "key": str(self.place / "user_key"),
            "folder": str(self.folder),
            **more,
        }

    def start(self) -> None:
        """Listen. Fails by name when it does not."""
        if os.getuid() == 0:
            Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
        config = self.place / "config"
        lines = [
            f"Port {self.port}",
            "ListenAddress 127.0.0.1",
            f"HostKey {self.place / 'host_key'}",
            f"AuthorizedKeysFile {self.place / 'authorized_keys'}",
            f"PidFile {self.place / 'pid'}",
            "StrictModes no",
            "UsePAM no",
            "PasswordAuthentication no",
            "PrintMotd no",
            *self.options,
        ]
        config.write_text("\n".join(lines) + "\n")
        assert SSHD
        with (self.place / "log").open("ab") as log:
            self.process = subprocess.Popen([SSHD, "-D", "-e", "-f", str(config)], stdout=log, stderr=log)
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            assert self.process.poll() is None, (self.place / "log").read_text()
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            time.sleep(0.02)
        raise AssertionError("sshd does not listen")

    def hang_up(self) -> None:
        """Its connections break; it listens on."""
        for pid in self._children():
            os.kill(pid, signal.SIGKILL)

    def die(self) -> None:
        """The whole host: sshd, its sessions, and every process that works in its folder."""
        self.stop()
        mark = str(self.folder).encode()
        for folder in Path("/proc").iterdir():
            if folder.name.isdigit() and int(folder.name) != os.getpid():
                try:
                    if mark in (folder / "cmdline").read_bytes() + (folder / "environ").read_bytes():
                        os.kill(int(folder.name), signal.SIGKILL)
                except OSError:
                    continue

    def stop(self) -> None:
        """No more sshd, and none of its sessions."""
        if self.process is not None:
            children = self._children()
            self.process.kill()
            self.process.wait()
            for pid in children:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            self.process = None

    def _children(self) -> list[int]:
        """sshd's processes for its connections."""
        assert self.process
        found: list[int] = []
        ask = [self.process.pid]
        while ask:
            pid = ask.pop()
            try:
                words = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
            except OSError:
                continue
            own = [int(word) for word in words if "sshd" in _name(int(word))]
            found += own
            ask += own
        return found


def _name(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text()
    except OSError:
        return ""
