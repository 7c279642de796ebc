"""Price snapshots: what goes in comes out, damage is seen, the shipped one is what its table gives."""

from __future__ import annotations

import gzip
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nexus.kernel.errors import UsageError
from nexus.launch.adapters.catalog.prices import SHIPPED
from nexus.launch.adapters.catalog.snapshot import Row, Source, pack, read_header, unpack

WORDS = st.text("abcXYZ0189._-", min_size=1, max_size=8)
PRICES = st.none() | st.integers(1, 10**6).map(lambda number: number / 1000)
ROWS = st.builds(
    Row,
    provider=WORDS,
    machine=WORDS,
    gpu=st.sampled_from(["", "A100", "H100"]),
    gpus=st.integers(0, 16),
    gpu_mib=st.integers(0, 10**6),
    cpu=st.integers(1, 999).map(lambda halves: halves / 2),
    memory_mib=st.integers(0, 10**7),
    arch=st.sampled_from(["x86_64", "arm64"]),
    region=WORDS,
    price=PRICES,
    spot_price=PRICES,
)


@given(st.lists(ROWS, max_size=30))
def test_every_row_comes_back_under_its_accelerator_and_the_order_of_writing_does_not_matter(rows: list[Row]) -> None:
    data = pack("2026-11-24", [Source(name="us", read="2026-11-24", providers=("a",))], rows)
    assert pack("2026-11-24", [Source(name="us", read="2026-11-24", providers=("a",))], rows[::-1]) == data
    snapshot = unpack(data)
    assert snapshot.header.rows == len(set(rows))
    for gpu in ("", "A100", "H100"):
        assert set(snapshot.rows(gpu)) == {row for row in rows if row.gpu == gpu}
    assert list(snapshot.rows("nope")) == []


def test_damage_is_seen(tmp_path: Path) -> None:
    row = Row("aws", "p5", "H100", 8, 81920, 192.0, 2097152, "x86_64", "us-east-1", 55.04, 10.5)
    data = pack("2026-11-24", [], [row])
    text = gzip.decompress(data)
    assert b"55.04" in text
    with pytest.raises(UsageError, match="damaged"):
        unpack(gzip.compress(text.replace(b"55.04", b"15.04")))
    for wrong in (b"", b"no gzip", data[: len(data) // 2], gzip.compress(b"not json\n")):
        with pytest.raises(UsageError, match="no price snapshot"):
            unpack(wrong)
    with pytest.raises(UsageError, match="format 2"):
        unpack(gzip.compress(text.replace(b'"format":1', b'"format":2')))
    (tmp_path / "wrong").write_bytes(b"no gzip")
    with pytest.raises(UsageError):
        read_header(tmp_path / "wrong")
    with pytest.raises(UsageError, match="comma"):
        pack("2026-11-24", [], [row._replace(machine="p5,p6")])


def test_the_shipped_snapshot_is_small_dated_and_what_its_table_gives() -> None:
    root = Path(__file__).parent.parent.parent.parent
    assert subprocess.run([sys.executable, root / "scripts/prices.py", "--check"], check=False).returncode == 0
    assert SHIPPED.stat().st_size < 300_000
    header = read_header(SHIPPED)
    assert time.strptime(header.made, "%Y-%m-%d")
    assert {"aws", "gcp", "lambda", "nebius"} <= {one for source in header.sources for one in source.providers}
