"""Offers and comparisons by a real server's services: list prices, who may refresh them, and what people read."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from nexus.app.settings import load_settings
from nexus.app.wire import Services, open_services
from nexus.kernel.errors import ForbiddenError, UsageError
from nexus.kernel.identity import Principal, PrincipalKind, Role
from nexus.launch.adapters.catalog.prices import CANNOT_START
from nexus.launch.core.comparing import Alternative, Comparison, MachineCount, OfferQuery, Refused
from nexus.launch.faces.offers_api import asked
from nexus.launch.faces.planview import compared_lines, price_notes
from nexus.launch.model import NODES, Assignment, Gpu, Placement, PriceNote, PriceSource, Submission
from tests.launch.build import GB, needs, node, plan, role

pytestmark = pytest.mark.anyio
ANN = Principal(PrincipalKind.USER, "ann", "default", Role.VIEWER)


@pytest.fixture
async def services(tmp_path: Path) -> AsyncIterator[Services]:
    made = await open_services(load_settings({}, home=tmp_path))
    yield made
    for close in reversed(made.closing):
        close()


async def test_the_cheapest_offers_are_listed_and_say_that_they_are_list_prices(services: Services) -> None:
    found = await services.offers.offers(ANN, OfferQuery(needs=asked(gpu="H100:8", region=["us-*"]), limit=3))
    prices = [offer.price for offer in found.offers]
    assert prices == sorted(prices)
    assert len(prices) == 3 < found.found
    assert {offer.unavailable for offer in found.offers} == {CANNOT_START}
    assert all(offer.region.startswith("us-") and len(offer.capacity.gpus) >= 8 for offer in found.offers)
    assert found.prices.rows > 100
    kept = await services.offers.offers(ANN, OfferQuery(needs=asked(gpu="H100", spot="never"), max_price=3.0))
    assert kept.offers
    assert all(offer.price <= 3.0 and not offer.spot for offer in kept.offers)
    only = await services.offers.offers(ANN, OfferQuery(needs=asked(gpu="H100"), providers=("lambda",)))
    assert {offer.provider for offer in only.offers} == {"lambda"}


def test_what_is_no_need_is_said_in_the_words_of_job_files() -> None:
    with pytest.raises(UsageError, match="gpu") as wrong:
        asked(gpu="H100:many")
    assert "--gpu" in wrong.value.hint


async def test_only_the_servers_owners_fetch_prices(services: Services) -> None:
    with pytest.raises(ForbiddenError):
        await services.offers.refresh(replace(ANN, role=Role.ADMIN))


async def test_a_run_is_compared_with_what_the_price_list_has(services: Services) -> None:
    await services.records.apply(
        (NODES, replace(node("a", gpus=(Gpu("H100", 80 * GB),)), project="default", version=0))
    )
    here = Submission(name="j", plan=plan(role(needs=needs(gpu=1, gpu_names=("H100",)))))
    found = await services.offers.compare(ANN, here)
    assert found.placement.fits
    assert found.startable is None
    assert {one.where.split(":")[0] for one in found.alternatives} >= {"aws", "lambda", "nebius"}
    gang = Submission(name="j", plan=plan(role(count=2, needs=needs(gpu=8, gpu_names=("H100",))), max_price=1.0))
    dear = await services.offers.compare(ANN, gang)
    assert not dear.placement.fits
    assert dear.alternatives == ()
    reasons = {one.reason for one in dear.refused}
    assert {"over max_price", "fewer than 8 accelerators"} & reasons
    assert sum(one.count for one in dear.refused) == dear.offers


# --------------------------------------------------------------------------- what people read

PRICES = PriceNote(made="2026-11-24", rows=2, sources=(PriceSource("lists", "2026-11-24", ("aws", "lambda")),))


def place(where: str, price: float, **more: object) -> Alternative:
    machines = (MachineCount(machine="p5", count=2, offer="o"),)
    fields = {"machines": machines, "gpus": {"H100": 16}, "unavailable": "cannot", **more}
    return Alternative(where=where, price=price, **fields)  # type: ignore[arg-type]


def test_the_box_shows_what_is_chosen_and_one_line_for_each_provider() -> None:
    job = plan(role("main", 2, needs=needs(gpu=8)))
    lab = node("gpu-07", gpus=(Gpu("H100", 80 * GB),) * 16)
    placement = Placement((Assignment("main", 0, lab.id, (0,)), Assignment("main", 1, lab.id, (1,))))
    comparison = Comparison(
        placement=placement,
        alternatives=(
            place("aws:us-east-1", 20.5, spot=True, reclaims_per_h=0.05),
            place("lambda:us-west-1", 60.0),
            place("lambda:us-west-2", 60.0),
        ),
        refused=(Refused(reason="over max_price", count=180), Refused(reason="in other regions", count=34)),
        offers=217,
        prices=PRICES,
    )
    assert compared_lines("digits", job, None, comparison, {lab.id: lab}) == [
        "digits · command · 2 x main (8 GPU)",
        "  CHOSEN    gpu-07 x2   2x H100   0.00/h",
        "  or        aws:us-east-1 (spot)   2x p5   16x H100   20.50/h   reclaimed 5%/h, list price",
        "            lambda:us-west-1       2x p5   16x H100   60.00/h   list price",
        "  rejected  214 offers: 180 over max_price, 34 in other regions",
        "  list price: cannot",
        "  prices of aws, lambda: a list that was read today (2026-11-24)",
    ]


def test_a_fleet_that_would_start_machines_is_the_choice_when_no_node_has_room() -> None:
    comparison = Comparison(
        placement=Placement(reason="no node fits"),
        alternatives=(
            place("slurm:lab", 8.0, unavailable="", fleet="fleet_1", start_s=2.0),
            place("ssh:old", 9.0, unavailable="the fleet old is paused", fleet="fleet_2"),
        ),
        refused=(),
        offers=2,
        prices=PRICES,
    )
    assert compared_lines("j", plan(), None, comparison, {})[1:] == [
        "  CHOSEN    slurm:lab   2x p5   16x H100   8.00/h   2 s to start",
        "  or        ssh:old     2x p5   16x H100   9.00/h   the fleet old is paused",
    ]


def test_an_old_list_says_so_and_how_to_get_another() -> None:
    assert price_notes(replace(PRICES, age_days=30)) == [
        "prices of aws, lambda: a list that was read 30 days ago (2026-11-24)"
    ]
    old = price_notes(replace(PRICES, age_days=31, trouble="another cannot be read"))
    assert "nexus offers refresh" in old[1]
    assert old[2] == "another cannot be read"
    assert price_notes(None) == []
