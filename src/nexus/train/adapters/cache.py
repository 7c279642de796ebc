"""Files that are made once and used by many: converted models, downloaded data."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
from collections.abc import Callable
from pathlib import Path

from nexus.kernel.errors import LimitError

_CHUNK_B = 1 << 20


def cache_folder() -> Path:
    """`$NEXUS_CACHE`, else `$XDG_CACHE_HOME/nexus`, else `~/.cache/nexus`. It may be removed at any time."""
    chosen = os.environ.get("NEXUS_CACHE")
    if chosen:
        return Path(chosen).absolute()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache").absolute() / "nexus"


def once(path: Path, make: Callable[[Path], None]) -> Path:
    """The folder `path`, which `make` fills if it is not there yet: whole or not at all, once among many processes.

    Raises LimitError if the disk is full, and whatever `make` raises.
    """
    if path.is_dir():
        return path
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.with_name(f".{path.name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # freed when the process ends, however it ends
            if not path.is_dir():
                _make(path, make)
    except OSError as error:
        raise LimitError(
            f"cannot write to {path.parent}: {error.strerror or error}", hint="Make room, or set NEXUS_CACHE."
        ) from error
    return path


def _make(path: Path, make: Callable[[Path], None]) -> None:
    draft = path.with_name(f".{path.name}.draft")
    shutil.rmtree(draft, ignore_errors=True)  # of a process that was killed; we hold the lock
    draft.mkdir()
    try:
        make(draft)
        draft.rename(path)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def file_digest(path: Path) -> str:
    """The SHA-256 of a file, in hex."""
    digest = hashlib.sha256()
    with path.open("rb") as opened:
        while chunk := opened.read(_CHUNK_B):
            digest.update(chunk)
    return digest.hexdigest()
