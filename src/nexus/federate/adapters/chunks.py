"""Files that travel in chunks: each is asked for or sent by its offset, so that a cut costs one chunk at most.

A chunk is deflated when a sample of it says that this pays. The whole file is checked at its end by a fast checksum:
TLS has kept it from strangers, and the checksum finds what went wrong at a seam or on a disk.
"""

from __future__ import annotations

import zlib
from pathlib import Path

import xxhash

from nexus.kernel.errors import UsageError

CHUNK_B = 16 << 20
DEFLATE = "deflate"
_READ_B = 1 << 20
_SAMPLE_B = 8 << 10
_PAYS = 0.8  # of the size: what saves less costs more time than it saves on any line that is worth deflating for


def checksum(path: Path) -> str:
    """XXH3 of a file, 128 bits as hex. Raises OSError."""
    found = xxhash.xxh3_128()
    with path.open("rb") as file:
        while data := file.read(_READ_B):
            found.update(data)
    return found.hexdigest()


def read_chunk(path: Path, offset: int) -> bytes:
    """The chunk that begins at `offset`; empty at the end. Raises OSError."""
    with path.open("rb") as file:
        file.seek(offset)
        return file.read(CHUNK_B)


def wrapped(data: bytes) -> tuple[bytes, str]:
    """A chunk as it travels, and its content-encoding."""
    middle = max(0, len(data) // 2 - _SAMPLE_B // 2)
    sample = data[middle : middle + _SAMPLE_B]
    if len(zlib.compress(sample, 1)) > _PAYS * len(sample):
        return data, ""
    small = zlib.compress(data, 1)
    return (small, DEFLATE) if len(small) < _PAYS * len(data) else (data, "")


def unwrapped(data: bytes, encoding: str) -> bytes:
    """A chunk as it was, however much it claims to hold. Raises UsageError."""
    if not encoding:
        return data
    if encoding != DEFLATE:
        raise UsageError(f"a chunk is encoded as {encoding!r}", hint="Send it as it is, or with deflate.")
    try:
        opened = zlib.decompressobj()
        plain = opened.decompress(data, CHUNK_B)
    except zlib.error as error:
        raise UsageError(f"a chunk cannot be read: {error}", hint="Send it again.") from error
    if not opened.eof or opened.unused_data:
        raise UsageError(f"a chunk is not whole, or holds more than {CHUNK_B} bytes", hint="Send it again.")
    return plain


class Incoming:
    """Files on their way here, by (round, client). What is half here outlives this process."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def held(self, number: int, client: int, check: str) -> int:
        """How many bytes of that file are here. Raises OSError."""
        path = self.path(number, client, check)
        return path.stat().st_size if path.exists() else 0

    def add(self, number: int, client: int, check: str, offset: int, data: bytes) -> int:
        """Keep the chunk at `offset`, if it is the next one; how much is here then. All of it or nothing of it.

        A file with another checksum that the client had begun to send is given up. Raises OSError.
        """
        self._folder.mkdir(exist_ok=True)
        path = self.path(number, client, check)
        for other in self._folder.glob(f"{number}-{client}-*.part"):
            if other != path:
                other.unlink(missing_ok=True)
        held = self.held(number, client, check)
        if held != offset:
            return held
        try:
            with path.open("ab", buffering=0) as file:
                written = file.write(data)
                if written < len(data):
                    file.write(data[written:])  # says why, where the first only wrote less
        except OSError:
            with path.open("ab") as file:
                file.truncate(offset)
            raise
        return offset + len(data)

    def path(self, number: int, client: int, check: str) -> Path:
        """Where that file lies."""
        return self._folder / f"{number}-{client}-{check}.part"

    def drop(self, number: int, client: int, check: str) -> None:
        """Give a file up."""
        self.path(number, client, check).unlink(missing_ok=True)

    def clean(self, number: int) -> None:
        """Give up what belongs to other rounds than `number`."""
        for path in self._folder.glob("*.part"):
            if not path.name.startswith(f"{number}-"):
                path.unlink(missing_ok=True)
