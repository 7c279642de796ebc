"""A price snapshot as a file: one line of JSON about it, then a line for each machine and region, gzipped.

Lines are sorted by accelerator and price, and the first line says which lines hold which accelerator, so that a
question about one of them reads few of many thousands.
"""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import msgspec

from nexus.kernel.errors import UsageError

FORMAT = 1


class Row(NamedTuple):
    """A machine in a region. Prices are in US dollars an hour for the whole machine; None: not sold that way."""

    provider: str
    machine: str
    gpu: str  # empty: it has none
    gpus: int
    gpu_mib: int
    cpu: float
    memory_mib: int
    arch: str
    region: str
    price: float | None
    spot_price: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Whose list it was, and when it was read."""

    name: str
    read: str  # 2026-11-24
    providers: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """The first line."""

    made: str  # 2026-11-24
    sources: tuple[Source, ...]
    sha256: str = ""  # of the lines that follow
    rows: int = 0
    places: dict[str, tuple[int, int]] = field(default_factory=dict)  # accelerator -> first line, line after the last
    format: int = FORMAT


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A snapshot in memory. Lines become rows only when they are asked for."""

    header: Header
    lines: tuple[str, ...]

    def rows(self, gpu: str) -> Iterator[Row]:
        """The machines with this accelerator, by its exact name; `` for those without one."""
        first, last = self.header.places.get(gpu, (0, 0))
        for line in self.lines[first:last]:
            yield _row(line)


def pack(made: str, sources: Iterable[Source], rows: Iterable[Row]) -> bytes:
    """A snapshot's bytes; the same rows give the same bytes. Raises UsageError for what a line cannot hold."""
    ordered = sorted(set(rows), key=lambda row: (row.gpu, _least(row), row[:9]))
    body = "".join(f"{_line(row)}\n" for row in ordered).encode()
    places: dict[str, tuple[int, int]] = {}
    for at, row in enumerate(ordered):
        places[row.gpu] = (places.get(row.gpu, (at, at))[0], at + 1)
    digest = hashlib.sha256(body).hexdigest()
    header = Header(made=made, sources=tuple(sources), sha256=digest, rows=len(ordered), places=places)
    return gzip.compress(msgspec.json.encode(header) + b"\n" + body, mtime=0)


def unpack(data: bytes) -> Snapshot:
    """Raises UsageError for what is no snapshot, or a damaged one."""
    try:
        first, _, body = gzip.decompress(data).partition(b"\n")
        header = msgspec.json.decode(first, type=Header)
    except (OSError, EOFError, msgspec.DecodeError) as error:
        raise UsageError(f"this is no price snapshot: {error}") from error
    if header.format != FORMAT:
        raise UsageError(f"the price snapshot has the format {header.format}; this Nexus reads {FORMAT}")
    if hashlib.sha256(body).hexdigest() != header.sha256:
        raise UsageError("the price snapshot is damaged: its lines are not those that were written")
    return Snapshot(header, tuple(body.decode().splitlines()))


def read_header(path: Path) -> Header:
    """The first line alone. Raises UsageError, OSError."""
    try:
        with gzip.open(path) as file:
            return msgspec.json.decode(file.readline(), type=Header)
    except (EOFError, gzip.BadGzipFile, msgspec.DecodeError) as error:
        raise UsageError(f"{path} is no price snapshot: {error}") from error


def _line(row: Row) -> str:
    words = [*row[:3], str(row.gpus), str(row.gpu_mib), f"{row.cpu:g}", str(row.memory_mib), row.arch, row.region]
    words += ["" if price is None else f"{price:.6g}" for price in (row.price, row.spot_price)]
    if any("," in word or "\n" in word for word in words):
        raise UsageError(f"{row.provider} {row.machine}: no field of a price may hold a comma or a line's end")
    return ",".join(words)


def _row(line: str) -> Row:
    provider, machine, gpu, gpus, gpu_mib, cpu, memory_mib, arch, region, price, spot = line.split(",")
    return Row(
        provider,
        machine,
        gpu,
        int(gpus),
        int(gpu_mib),
        float(cpu),
        int(memory_mib),
        arch,
        region,
        float(price) if price else None,
        float(spot) if spot else None,
    )


def _least(row: Row) -> float:
    return min((price for price in (row.price, row.spot_price) if price is not None), default=0.0)
