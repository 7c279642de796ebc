"""Nexus itself, packed for a host that does not have it: this package, and the two that its agent needs.

The parcel is named by what is in it, so a host that has it gets nothing; the same files give the same bytes.
"""

from __future__ import annotations

import gzip
import hashlib
import importlib.metadata
import io
import tarfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import nexus

_NEEDED = ("h11", "msgspec")
_COMPILED = "msgspec"  # its binary fits one Python on one platform; elsewhere the host installs this version itself
_LEFT_OUT = frozenset({"static", "templates", "__pycache__", "examples"})
_MAIN = b'''"""`python PARCEL agent HOME`, `python PARCEL host VERB`."""

import sys

if sys.argv[1] == "agent":
    from nexus.agent.__main__ import main

    sys.exit(main(sys.argv[2:]))
from nexus.agent.host import main as host

sys.exit(host(sys.argv[2]))
'''


@dataclass(frozen=True, slots=True)
class Parcel:
    """A compressed archive, and what names it."""

    digest: str
    content: bytes
    requires: str  # what the host installs where the binary in it does not fit, as pip says it


@cache
def parcel() -> Parcel:
    """Takes about 0.2 s the first time."""
    files = {"__main__.py": _MAIN}
    for package in (Path(nexus.__file__).parent, *(_folder(name) for name in _NEEDED)):
        for file in sorted(package.rglob("*")):
            part = file.relative_to(package.parent)
            if file.suffix in {".py", ".so", ".sh"} and not _LEFT_OUT & set(part.parts):
                files[part.as_posix()] = file.read_bytes()
    digest = hashlib.sha256()
    for name, content in sorted(files.items()):
        digest.update(f"{name}\0{len(content)}\0".encode() + content)
    requires = f"{_COMPILED}=={importlib.metadata.version(_COMPILED)}"
    return Parcel(digest.hexdigest()[:32], _packed(files), requires)


def _folder(name: str) -> Path:
    """Where an installed package is."""
    found = importlib.metadata.distribution(name).locate_file(name)
    return Path(str(found))


def _packed(files: dict[str, bytes]) -> bytes:
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name, content in sorted(files.items()):
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(content), 0o600
            archive.addfile(entry, io.BytesIO(content))
    return gzip.compress(raw.getvalue(), compresslevel=6, mtime=0)
