"""Unpacked workspaces, kept for the next task of the same: copying a folder takes a tenth of unpacking it.

Each task gets a copy of its own, for jobs write where they run. Where the file system can, a copy shares its blocks
with the kept one until either changes.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path

CACHE_B = 5 * 1024**3
_FICLONE = 0x40049409  # ioctl_ficlone(2)
_CALM_S = 60.0  # a folder that was used so lately may be being copied


class Trees:
    """Folders by their packages' digests, under one folder. Several tasks may use it at once."""

    def __init__(self, folder: Path, cache_b: int = CACHE_B) -> None:
        self._folder = folder
        self._cache_b = cache_b

    def copy(self, digest: str, target: Path) -> bool:
        """A copy of the kept folder at `target`, which is not there yet; False if it is not kept. Raises OSError."""
        kept = self._folder / digest
        try:
            os.utime(kept)
        except FileNotFoundError:
            return False
        _copy(str(kept / "tree"), str(target), can_clone=sys.platform == "linux")
        return True

    def keep(self, digest: str, tree: Path) -> None:
        """Take over a folder that was just unpacked; another's of the same digest stays.

        Raises OSError, and leaves the folder where it is.
        """
        self._folder.mkdir(mode=0o700, exist_ok=True)
        draft = Path(tempfile.mkdtemp(dir=self._folder, prefix=f"{digest}."))
        size = sum(path.lstat().st_size for path in tree.rglob("*") if path.is_file())
        (draft / "size").write_text(str(size))
        tree.replace(draft / "tree")
        try:
            draft.rename(self._folder / digest)
        except OSError:  # it is there by now
            shutil.rmtree(draft, ignore_errors=True)
        self._evict()

    def _evict(self) -> None:
        """What was not used for longest goes, until the rest fits; a draft that nobody finished too."""
        now = time.time()  # noqa: TID251 (compared with the times of files)
        kept = []
        for path in self._folder.iterdir():
            try:
                used = path.stat().st_mtime
            except FileNotFoundError:
                continue  # a draft that another has finished
            kept.append((used, _size(path), path))
        total = sum(size for _, size, _ in kept)
        for used, size, path in sorted(kept):
            is_draft = len(path.name) > 64
            if now - used < _CALM_S or (total <= self._cache_b and not is_draft):
                continue
            shutil.rmtree(path, ignore_errors=True)
            total -= size


def _size(kept: Path) -> int:
    try:
        return int((kept / "size").read_text() or 0)
    except FileNotFoundError:
        return 0


def _copy(source: str, target: str, *, can_clone: bool) -> None:
    os.mkdir(target, 0o755)  # noqa: PTH102 (a workspace may have a hundred thousand files)
    with os.scandir(source) as entries:
        for entry in entries:
            path = f"{target}/{entry.name}"
            if entry.is_symlink():
                os.symlink(os.readlink(entry.path), path)  # noqa: PTH115, PTH211
            elif entry.is_dir():
                _copy(entry.path, path, can_clone=can_clone)
            else:
                can_clone = _copy_file(entry.path, path, can_clone=can_clone)


def _copy_file(source: str, target: str, *, can_clone: bool) -> bool:
    """Whether it is worth a try to have the next one share its blocks."""
    if sys.platform != "linux":
        shutil.copy(source, target)
        return False
    read = os.open(source, os.O_RDONLY)
    try:
        found = os.fstat(read)
        write = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, found.st_mode & 0o777)
        try:
            if can_clone:
                try:
                    fcntl.ioctl(write, _FICLONE, read)
                except OSError:
                    can_clone = False
                else:
                    return True
            offset = 0
            while offset < found.st_size:
                offset += os.sendfile(write, read, offset, found.st_size - offset) or found.st_size
        finally:
            os.close(write)
    finally:
        os.close(read)
    return can_clone
