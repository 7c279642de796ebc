"""What simulated devices are: how long a turn takes on virtual time, when a client is there, whether its turn fails.

Virtual time is in seconds from the beginning of the run. Nothing here waits, and nothing depends on the machine that
simulates: the same seed gives the same times.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol

from nexus.kernel.errors import FileError


class Devices(Protocol):
    """Its options are the fields of the frozen dataclass that implements it."""

    def seconds(self, client: int, number: int, samples: int, size_b: int) -> float:
        """How long the client's turn in round `number` takes: training on `samples`, moving `size_b` both ways."""
        ...

    def fails(self, client: int, number: int) -> float | None:
        """After which part of its turn (0 to 1) the client fails; None: it does not."""
        ...

    def comes(self, client: int, at: float) -> float:
        """When the client is there, from `at` on: `at` if it is there now, infinity if it never comes again."""
        ...

    def leaves(self, client: int, at: float) -> float:
        """Until when a client that is there stays."""
        ...


@dataclass(frozen=True, slots=True)
class Errand:
    """A client's turn on virtual time: it sends its update at `ends`, or is lost at that time."""

    client: int
    ends: float
    lost: str = ""  # why nothing comes


def errand(devices: Devices, client: int, number: int, at: float, samples: int, size_b: int) -> Errand:
    """What becomes of a turn that begins at `at`."""
    seconds = devices.seconds(client, number, samples, size_b)
    ends = at + seconds
    failing = devices.fails(client, number)
    if failing is not None:
        ends = at + failing * seconds
    leaves = devices.leaves(client, at)
    if leaves < ends:
        return Errand(client, leaves, "it went away")
    return Errand(client, ends, "" if failing is None else "its device failed")


# --------------------------------------------------------------------------- a trace


@dataclass(frozen=True)
class Traced:
    """Devices of which a file says when they are there, and how fast; of the others `usual` does."""

    usual: Devices
    speeds: Mapping[int, float]  # samples per second
    stays: Mapping[int, tuple[tuple[float, float], ...]]  # (from, to) in ascending order

    def seconds(self, client: int, number: int, samples: int, size_b: int) -> float:
        if client not in self.speeds:
            return self.usual.seconds(client, number, samples, size_b)
        return samples / self.speeds[client] + self.usual.seconds(client, number, 0, size_b)

    def fails(self, client: int, number: int) -> float | None:
        return self.usual.fails(client, number)

    def comes(self, client: int, at: float) -> float:
        if client not in self.stays:
            return self.usual.comes(client, at)
        return next((max(at, start) for start, end in self.stays[client] if end > at), math.inf)

    def leaves(self, client: int, at: float) -> float:
        if client not in self.stays:
            return self.usual.leaves(client, at)
        return next((end for start, end in self.stays[client] if start <= at < end), at)


def read_trace(lines: Iterable[str], file: str, usual: Devices) -> Traced:
    """A CSV with the columns `client`, and `from`,`to` (seconds) or `speed` (samples per second) or both.

    A client may have many rows: each is a stay. Raises FileError.
    """
    rows = csv.DictReader(lines)
    known = {"client", "from", "to", "speed"}
    columns = set(rows.fieldnames or ())
    if "client" not in columns or columns - known or len(columns & {"from", "to"}) == 1 or columns == {"client"}:
        raise FileError(
            f"the columns are {', '.join(rows.fieldnames or ()) or 'missing'}",
            hint="They must be client,from,to or client,speed or client,from,to,speed.",
            file=file,
            line=1,
        )
    speeds: dict[int, float] = {}
    stays: dict[int, list[tuple[float, float]]] = {}
    for line, row in enumerate(rows, 2):
        try:
            client = int(row["client"])
            if row.get("speed"):
                speeds[client] = _positive(float(row["speed"]))
            if row.get("from") or row.get("to"):
                start, end = float(row["from"]), float(row["to"])
                _positive(end - start)
                stays.setdefault(client, []).append((start, end))
        except (TypeError, ValueError) as error:
            raise FileError(
                f"this row is not understood: {', '.join(str(value) for value in row.values())}",
                hint="For example 3,0,600: client 3 is there for the first ten minutes. Speeds are above 0.",
                file=file,
                line=line,
            ) from error
    return Traced(usual, speeds, {client: tuple(sorted(found)) for client, found in stays.items()})


def _positive(value: float) -> float:
    if not 0 < value < math.inf:
        raise ValueError(value)
    return value
