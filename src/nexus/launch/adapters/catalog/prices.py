"""The price list that is in use: the one that was fetched last, or the one that Nexus ships, whichever is newer."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from fnmatch import fnmatchcase
from functools import lru_cache
from pathlib import Path

from nexus.kernel.errors import NexusError
from nexus.launch.adapters.catalog.hunting import NAME, hunt
from nexus.launch.adapters.catalog.snapshot import Row, Snapshot, Source, pack, read_header, unpack
from nexus.launch.model import Capacity, Gpu, GpuNeed, Offer, PriceNote, PriceSource

SHIPPED = Path(__file__).with_name("prices.csv.gz")
CANNOT_START = "known from a price list; Nexus cannot start it yet"
_MIB = 1024**2
_DISK_B = 1024**4  # clouds rent disks with a machine, in any size that a job may ask for
_START_S = 180.0  # from the order to an agent that speaks, as a rule


class PriceList:
    """Implements `launch.ports.Catalog`. `own` is where fetched prices are kept; the file may not be there."""

    def __init__(self, own: Path, *, today: Callable[[], str], fetch: Callable[[], list[Row]] = hunt) -> None:
        self._own = own
        self._today = today
        self._fetch = fetch
        self._loaded: tuple[tuple[Path, int], Snapshot, str] | None = None

    async def about(self) -> PriceNote:
        _, snapshot, trouble = await asyncio.to_thread(self._load)
        header = snapshot.header
        sources = tuple(PriceSource(one.name, one.read, one.providers) for one in header.sources)
        return PriceNote(made=header.made, rows=header.rows, sources=sources, trouble=trouble)

    async def offers(self, gpu: GpuNeed) -> list[Offer]:
        return await asyncio.to_thread(lambda: list(self._offers(gpu)))

    async def refresh(self) -> PriceNote:
        await asyncio.to_thread(self._refresh)
        return await self.about()

    def _refresh(self) -> None:
        rows = self._fetch()
        today = self._today()
        source = Source(name=NAME, read=today, providers=tuple(sorted({row.provider for row in rows})))
        data = pack(today, [source], rows)
        self._own.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        draft = self._own.with_name(f".{self._own.name}.{os.getpid()}")
        draft.write_bytes(data)
        draft.replace(self._own)

    def _offers(self, gpu: GpuNeed) -> Iterator[Offer]:
        _, snapshot, _ = self._load()
        for name in snapshot.header.places:
            if bool(name) == bool(gpu.count) and (not name or _is_named(name, gpu)):
                for row in snapshot.rows(name):
                    if row.gpus >= gpu.count:
                        yield from _offers_of(row)

    def _load(self) -> tuple[tuple[Path, int], Snapshot, str]:
        """Read again only when another file is the one to use; for one that cannot be read, the shipped one is."""
        path, trouble = self._newest()
        mark = (path, path.stat().st_mtime_ns)
        if self._loaded is None or self._loaded[0] != mark or self._loaded[2] != trouble:
            try:
                snapshot = unpack(path.read_bytes())
            except (NexusError, OSError) as error:
                trouble = f"{path} cannot be used ({error}); these are the prices that Nexus ships"
                snapshot = unpack(SHIPPED.read_bytes())
            self._loaded = (mark, snapshot, trouble)
        return self._loaded

    def _newest(self) -> tuple[Path, str]:
        try:
            is_newer = read_header(self._own).made >= read_header(SHIPPED).made
        except FileNotFoundError:
            return SHIPPED, ""
        except (NexusError, OSError) as error:
            return SHIPPED, f"{self._own} cannot be used ({error}); these are the prices that Nexus ships"
        return (self._own, "") if is_newer else (SHIPPED, "")


def _is_named(name: str, gpu: GpuNeed) -> bool:
    return not gpu.names or any(fnmatchcase(name.lower(), f"*{glob.lower()}*") for glob in gpu.names)


def _offers_of(row: Row) -> Iterator[Offer]:
    """One for what is kept, one for what may be taken away; each where it is sold."""
    at_will = Offer(
        id=f"{row.provider}:{row.region}:{row.machine}",
        provider=row.provider,
        machine=row.machine,
        capacity=_capacity(row.cpu, row.memory_mib, row.gpu, row.gpus, row.gpu_mib),
        region=row.region,
        network=f"{row.provider}:{row.region}",
        labels={"arch": row.arch, "os": "linux"},
        price=row.price or 0.0,
        start_s=_START_S,
        isolation=("process", "container"),
        unavailable=CANNOT_START,
    )
    if row.price is not None:
        yield at_will
    if row.spot_price is not None and (row.price is None or row.spot_price < row.price):
        yield replace(at_will, id=f"{at_will.id}:spot", price=row.spot_price, spot=True)


@lru_cache(maxsize=4096)
def _capacity(cpu: float, memory_mib: int, gpu: str, gpus: int, gpu_mib: int) -> Capacity:
    """Shared by all regions and by spot: a large list names few sizes many times."""
    accelerators = (Gpu(gpu, gpu_mib * _MIB),) * gpus
    return Capacity(cpu=cpu, memory_b=memory_mib * _MIB, disk_b=_DISK_B, gpus=accelerators)
