"""The price list in use: what it offers, which snapshot it takes, and how a newer one comes."""

from __future__ import annotations

import io
import threading
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from nexus.kernel.errors import UnavailableError
from nexus.launch.adapters.catalog.hunting import hunt
from nexus.launch.adapters.catalog.prices import CANNOT_START, PriceList
from nexus.launch.adapters.catalog.snapshot import Row, Source, pack
from nexus.launch.model import Gpu, GpuNeed

pytestmark = pytest.mark.anyio

H100 = Row("aws", "p5.48xlarge", "H100", 8, 81920, 192.0, 2097152, "x86_64", "us-east-1", 55.04, 10.0)
CPU = Row("gcp", "n2", "", 0, 0, 16.0, 16384, "x86_64", "europe-west1", 0.5, None)


def a_list(tmp_path: Path, *rows: Row, made: str = "2030-01-01") -> PriceList:
    own = tmp_path / "prices.csv.gz"
    own.write_bytes(pack(made, [Source(name="test", read=made, providers=("aws",))], rows))
    return PriceList(own, today=lambda: made)


async def test_a_row_is_an_offer_for_each_way_in_which_it_is_sold(tmp_path: Path) -> None:
    dear = H100._replace(region="eu-west-2", price=70.0, spot_price=70.0)
    spot_only = H100._replace(provider="verda", machine="8H100", price=None, spot_price=9.0)
    found = await a_list(tmp_path, H100, dear, spot_only, CPU).offers(GpuNeed(count=8, names=("h100",)))
    prices = {offer.id: (offer.price, offer.spot) for offer in found}
    assert prices == {
        "aws:us-east-1:p5.48xlarge": (55.04, False),
        "aws:us-east-1:p5.48xlarge:spot": (10.0, True),
        "aws:eu-west-2:p5.48xlarge": (70.0, False),  # spot that costs as much is no offer
        "verda:us-east-1:8H100:spot": (9.0, True),
    }
    one = found[0]
    assert one.capacity.gpus == (Gpu("H100", 80 * 1024**3),) * 8
    assert one.unavailable == CANNOT_START
    assert not one.fleet


async def test_accelerators_are_asked_for_by_name_and_number(tmp_path: Path) -> None:
    prices = a_list(tmp_path, H100, H100._replace(machine="p5.4xlarge", gpus=1), CPU)

    async def machines(gpu: GpuNeed) -> set[str]:
        return {offer.machine for offer in await prices.offers(gpu)}

    assert await machines(GpuNeed(count=1)) == {"p5.48xlarge", "p5.4xlarge"}
    assert await machines(GpuNeed(count=2, names=("a100", "H*"))) == {"p5.48xlarge"}
    assert await machines(GpuNeed(count=1, names=("A100",))) == set()
    assert await machines(GpuNeed()) == {"n2"}


async def test_the_newer_snapshot_is_used_and_a_broken_one_is_said(tmp_path: Path) -> None:
    shipped = await PriceList(tmp_path / "none", today=lambda: "").about()
    assert (await a_list(tmp_path, H100).about()).made == "2030-01-01"
    older = await a_list(tmp_path, H100, made="2001-01-01").about()
    assert (older.made, older.trouble) == (shipped.made, "")
    (tmp_path / "prices.csv.gz").write_bytes(b"broken")
    broken = PriceList(tmp_path / "prices.csv.gz", today=lambda: "")
    note = await broken.about()
    assert note.made == shipped.made
    assert "cannot be used" in note.trouble
    assert await broken.offers(GpuNeed(count=1))


async def test_a_refreshed_list_is_kept_and_used_at_once(tmp_path: Path) -> None:
    prices = PriceList(tmp_path / "home" / "prices.csv.gz", today=lambda: "2031-05-06", fetch=lambda: [H100])
    before = await prices.offers(GpuNeed(count=1))
    note = await prices.refresh()
    assert (note.made, note.rows, note.sources[0].providers) == ("2031-05-06", 1, ("aws",))
    after = await prices.offers(GpuNeed(count=1))
    assert len(after) == 2 < len(before)
    assert (await PriceList(tmp_path / "home" / "prices.csv.gz", today=lambda: "").about()).made == "2031-05-06"


async def test_a_refresh_that_fails_leaves_the_prices_that_are_there(tmp_path: Path) -> None:
    def nobody() -> list[Row]:
        raise UnavailableError("no price list answers")

    own = tmp_path / "prices.csv.gz"
    prices = PriceList(own, today=lambda: "2031-05-06", fetch=nobody)
    with pytest.raises(UnavailableError):
        await prices.refresh()
    assert not own.exists()
    assert await prices.offers(GpuNeed(count=1))


# --------------------------------------------------------------------------- gpuhunt itself, against a server of ours

COLUMNS = (
    "instance_name,location,price,cpu,memory,gpu_count,gpu_name,gpu_memory,spot,disk_size,gpu_vendor,flags,cpu_arch"
)
LINES = {
    "aws": [
        "p5.48xlarge,us-east-1,55.04,192,2048,8,H100,80,False,,nvidia,,x86",
        "m8g,us-east-1,1.5,8,32,0,,,False,,,,arm",
    ],
    "gcp": ["tpu-v6e,us-east1,2.7,44,176,1,v6e,32,False,,google,,x86"],
    "nebius": [
        "gpu-h100,eu-north1,2.95,16,200,1,H100,80,False,,nvidia,,x86",
        "gpu-h100,eu-north1,1.25,16,200,1,H100,80,True,,nvidia,,x86",
    ],
}


class _Lists(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        provider, *rest = self.path.strip("/").split("/")
        if rest == ["version"]:
            answer = b"20310506"
        else:
            packed = io.BytesIO()
            with zipfile.ZipFile(packed, "w") as archive:
                lines = [f"{line},{{}}" for line in LINES.get(provider, [])]
                archive.writestr(f"{provider}.csv", "\n".join([f"{COLUMNS},provider_data", *lines]) + "\n")
            answer = packed.getvalue()
        self.send_response(200)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_: object) -> None:
        """Quiet."""


@pytest.fixture
def lists() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Lists)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_published_lists_become_rows(lists: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("gpuhunt")
    monkeypatch.setenv("GPUHUNT_CATALOG_URL", lists)
    assert sorted(hunt()) == sorted(
        [
            Row("aws", "p5.48xlarge", "H100", 8, 81920, 192.0, 2097152, "x86_64", "us-east-1", 55.04, None),
            Row("aws", "m8g", "", 0, 0, 8.0, 32768, "arm64", "us-east-1", 1.5, None),
            Row("nebius", "gpu-h100", "H100", 1, 81920, 16.0, 204800, "x86_64", "eu-north1", 2.95, 1.25),
        ]
    )


def test_no_internet_is_said_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("gpuhunt")
    monkeypatch.setenv("GPUHUNT_CATALOG_URL", "http://127.0.0.1:9")
    with pytest.raises(UnavailableError, match="no price list answers") as failed:
        hunt()
    assert failed.value.hint == "The prices that are here stay."
