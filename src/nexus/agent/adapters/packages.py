"""Packed folders, as the agent uses them. The format is loaded when a task first brings a package."""

from __future__ import annotations

from pathlib import Path


def is_package(archive: Path) -> bool:
    """Whether the file is a packed folder, and not some other file."""
    from nexus.infra import package

    return package.is_package(archive)


def unpack(archive: Path, folder: Path) -> None:
    """The package's files, into a folder that is not there yet. Raises UsageError if a path leads out of it."""
    from nexus.infra import package

    package.unpack(archive, folder)


def pack(folder: Path, archive: Path) -> None:
    """The folder as a package: the same files give the same bytes."""
    from nexus.infra import package

    package.pack(folder, archive)
