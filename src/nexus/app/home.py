"""The home folder: what this machine remembers of the server it runs and of the server it talks to."""

from __future__ import annotations

import fcntl
import json
import os
import time
from dataclasses import dataclass
from pathlib import Path

from nexus.kernel.errors import ConflictError, UsageError

_CLOSING_S = 2.0  # what a server that has said its goodbye, or a look at the lock, may still take


@dataclass(frozen=True)
class Home:
    """Paths and small files under one folder, which only its owner may read."""

    path: Path

    def prepare(self) -> None:
        """Make the folder. Raises UsageError when that is not allowed."""
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise UsageError(
                f"cannot use {self.path}: {error.strerror}", hint="Name another with NEXUS_HOME."
            ) from error

    @property
    def log(self) -> Path:
        """What the background server says."""
        return self.path / "server.log"

    @property
    def server_file(self) -> Path:
        """Who serves here now: {"pid", "url"}."""
        return self.path / "server.json"

    @property
    def login_file(self) -> Path:
        """The server that commands talk to: {"url", "token", "project" where it is not the token's own}."""
        return self.path / "login.json"

    def server(self) -> dict[str, str] | None:
        """The server that answers here: its file counts only while somebody holds the lock, for numbers come again."""
        return _read(self.server_file) if self.is_taken() else None

    @property
    def lock_file(self) -> Path:
        """Locked by the server of this home for as long as its process lives."""
        return self.path / "server.lock"

    def take(self) -> int:
        """Keep other servers out of this home while this process lives. Raises ConflictError."""
        descriptor = os.open(self.lock_file, os.O_RDWR | os.O_CREAT, 0o600)
        deadline = time.monotonic() + _CLOSING_S
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError as error:
                if time.monotonic() > deadline:
                    os.close(descriptor)
                    hint = "nexus open shows it, nexus down stops it; NEXUS_HOME names another home."
                    raise ConflictError(f"Nexus already runs in {self.path}", hint=hint) from error
            time.sleep(0.02)
        self.server_file.unlink(missing_ok=True)  # of one that was killed
        return descriptor

    def is_taken(self) -> bool:
        """Whether a server of this home runs, or is starting or ending."""
        try:
            descriptor = os.open(self.lock_file, os.O_RDWR)
        except OSError:
            return False
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(descriptor)
        return False

    def login(self) -> dict[str, str] | None:
        """The server and token that `nexus login` or `nexus up` left."""
        return _read(self.login_file)

    def key(self, name: str = "server.key") -> bytes:
        """32 secret bytes of this installation, made on first use."""
        path = self.path / name
        if not path.exists():
            write_private(path, os.urandom(32).hex())
        return bytes.fromhex(path.read_text().strip())


def write_private(path: Path, text: str) -> None:
    """Write a file that only its owner may read; it appears whole or not at all."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
    temporary.replace(path)


def write_login(home: Home, url: str, token: str, project: str = "") -> None:
    """Remember the server, token and project that commands use from now on."""
    where = {"project": project} if project else {}
    write_private(home.login_file, json.dumps({"url": url, "token": token, **where}))


def _read(path: Path) -> dict[str, str] | None:
    try:
        found = json.loads(path.read_text())
    except (FileNotFoundError, ValueError):
        return None
    return {name: str(value) for name, value in found.items()} if isinstance(found, dict) else None
