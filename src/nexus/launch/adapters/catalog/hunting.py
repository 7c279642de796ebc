"""Today's list prices, fetched by gpuhunt (the extra `prices`), which knows how each cloud publishes its own."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from nexus.kernel.errors import MissingError, UnavailableError
from nexus.launch.adapters.catalog.snapshot import Row

NAME = "gpuhunt"


def hunt() -> list[Row]:
    """Every machine of every cloud whose prices are published. Takes seconds. Raises MissingError, UnavailableError."""
    try:
        import gpuhunt
    except ImportError as error:
        raise MissingError("prices are fetched with gpuhunt", hint="pip install 'nexus[prices]'") from error
    catalog = gpuhunt.Catalog(balance_resources=False, auto_reload=False)
    try:
        catalog.load()
    except Exception as error:
        cause = error.__cause__ or error
        raise UnavailableError(f"no price list answers: {cause}", hint="The prices that are here stay.") from error
    return rows_of(catalog.query())


def rows_of(items: Iterable[Any]) -> list[Row]:
    """Gpuhunt's items, those for spot beside those that are not. TPUs are left out: they are asked for otherwise."""
    found: dict[tuple[str, str, str], Row] = {}
    for item in items:
        vendor = getattr(item.gpu_vendor, "value", item.gpu_vendor)
        if vendor == "google" or not item.price:
            continue
        key = (item.provider, item.instance_name, item.location)
        row = found.get(key) or _row(item)
        found[key] = row._replace(spot_price=item.price) if item.spot else row._replace(price=item.price)
    return list(found.values())


def _row(item: Any) -> Row:
    """Prices are not in it yet."""
    count = item.gpu_count or 0
    arch = getattr(item.cpu_arch, "value", item.cpu_arch)
    return Row(
        provider=item.provider,
        machine=item.instance_name,
        gpu=(item.gpu_name or "gpu") if count else "",
        gpus=count,
        gpu_mib=round((item.gpu_memory or 0) * 1024) if count else 0,
        cpu=float(item.cpu or 0),
        memory_mib=round((item.memory or 0) * 1024),
        arch="arm64" if arch == "arm" else "x86_64",
        region=item.location,
        price=None,
        spot_price=None,
    )
