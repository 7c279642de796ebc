"""Make the price snapshot that Nexus ships, src/nexus/launch/adapters/catalog/prices.csv.gz.

python scripts/prices.py           from scripts/prices.csv, which people copied from published lists (decision 0008)
python scripts/prices.py --live    from today's lists, by gpuhunt: pip install 'nexus[prices]'; needs the internet
python scripts/prices.py --check   fail if the shipped snapshot is not what scripts/prices.csv gives
"""

from __future__ import annotations

import csv
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from nexus.launch.adapters.catalog.hunting import NAME, hunt
from nexus.launch.adapters.catalog.prices import SHIPPED
from nexus.launch.adapters.catalog.snapshot import Row, Source, pack

TABLE = Path(__file__).with_name("prices.csv")
READ = "2026-11-24"  # when somebody last compared the table with the lists; change it with the table
LISTS = "SkyPilot's public catalogue of list prices"
GROUPS = {  # regions that many lines of one provider share
    "@lambda": "europe-central-1 asia-south-1 me-west-1 europe-south-1 asia-northeast-1 asia-northeast-2 "
    "australia-east-1 us-east-1 us-east-2 us-east-3 us-west-2 us-west-1 us-south-1 us-south-2 us-south-3 us-west-3 "
    "us-midwest-1"
}


def listed() -> Iterator[Row]:
    """Every line of the table, once for each of its regions."""
    with TABLE.open() as file:
        for line in csv.DictReader(file):
            for region in GROUPS.get(line["regions"], line["regions"]).split():
                yield Row(
                    provider=line["provider"],
                    machine=line["machine"],
                    gpu=line["gpu"],
                    gpus=int(line["gpus"]),
                    gpu_mib=int(line["gpu_gib"]) * 1024,
                    cpu=float(line["cpu"]),
                    memory_mib=int(line["memory_gib"]) * 1024,
                    arch=line["arch"],
                    region=region,
                    price=float(line["price"]) if line["price"] else None,
                    spot_price=float(line["spot_price"]) if line["spot_price"] else None,
                )


def main() -> int:
    is_live = "--live" in sys.argv
    rows = hunt() if is_live else list(listed())
    read = time.strftime("%Y-%m-%d") if is_live else READ
    providers = tuple(sorted({row.provider for row in rows}))
    data = pack(read, [Source(name=NAME if is_live else LISTS, read=read, providers=providers)], rows)
    if "--check" in sys.argv:
        return 0 if SHIPPED.read_bytes() == data else 1
    SHIPPED.write_bytes(data)
    print(f"{len(rows)} prices of {', '.join(providers)}: {len(data):,} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
