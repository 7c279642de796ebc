"""The page of costs: what it says, and who may ask for what."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from nexus.launch.model import TaskState
from tests.studio.house import open_house
from tests.studio.test_pages import Visit, browser

pytestmark = pytest.mark.anyio


@pytest.fixture
async def visit(tmp_path: Path) -> AsyncIterator[Visit]:
    async with open_house(tmp_path) as house, browser(house, await house.session()) as http:
        yield Visit(house, http)


async def test_costs_are_shown_by_what_was_asked_for(visit: Visit) -> None:
    house = visit.house
    node = await house.node("gpu-7", price=2.0)
    for name, user, hours in (("digits", "ada", 1), ("big", "bob", 3)):
        run = await house.run(name, user=user)
        now = house.clock.now()
        await house.task(run, node, state=TaskState.SUCCEEDED, created=now - 3600 * hours, ended=now)
    text = await visit.text("/costs")
    assert text.index(">big<") < text.index(">digits<"), "dearest first"
    assert "$6.00" in text
    assert "$9.50" in text, "in all, with half an hour of an idle machine at 3.0"
    assert "idle</span> lab" in text
    by_user = await visit.text("/costs?by=user&since=7d")
    assert ">bob<" in by_user
    assert 'aria-current="true">User' in by_user
    assert 'aria-current="true">7d' in by_user
    assert (await visit.http.get("/costs?since=always")).status_code == 400


async def test_only_owners_are_offered_costs_by_project(visit: Visit) -> None:
    node = await visit.house.node("gpu-7", price=2.0)
    await visit.house.task(await visit.house.run("digits"), node, created=visit.house.clock.now() - 3600)
    assert "by=project" not in await visit.text("/costs")


async def test_where_no_bill_is_kept_the_page_says_so(tmp_path: Path) -> None:
    async with open_house(tmp_path, costs=False) as house, browser(house, await house.session()) as http:
        answer = await http.get("/costs")
        assert answer.status_code == 501
        assert "keeps no bills" in answer.text
