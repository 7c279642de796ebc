"""Logging in by a password, and changing between projects."""

from __future__ import annotations

from pathlib import Path

import pytest

from nexus.access.service import People
from nexus.access.service.tokens import SYSTEM
from nexus.app.bridges import UseByRecords
from nexus.infra.clock import system_entropy
from nexus.infra.web.auth import PROJECT_COOKIE
from tests.studio.house import open_house
from tests.studio.test_pages import browser

pytestmark = pytest.mark.anyio
PASSWORD = "correct horse battery"


async def test_a_password_logs_in_and_a_project_is_chosen(tmp_path: Path) -> None:
    async with open_house(tmp_path) as house, browser(house) as http:
        people = People(house.records, house.clock, system_entropy, house.access, UseByRecords(house.records))
        await people.found()
        owner = await house.access.authenticate((await people.login_token("owner", "default", by=SYSTEM)).secret)
        assert owner is not None
        await people.create_project(owner, "vision")
        await people.set_password(owner, "owner", PASSWORD)
        wrong = await http.post("/login", data={"user": "owner", "password": "wrong horse battery"})
        assert wrong.status_code == 401
        assert "do not fit" in wrong.text
        assert (await http.post("/login", data={"user": "owner", "password": PASSWORD})).status_code == 303
        assert "Work in vision" in (await http.get("/projects")).text
        assert (await http.post("/projects/vision")).status_code == 303
        assert http.cookies[PROJECT_COOKIE] == "vision"
        assert "Work in default" in (await http.get("/projects")).text
        assert (await http.post("/projects/nothing")).status_code == 404
        await people.remove_project(owner, "vision")
        assert "you are here" in (await http.get("/projects")).text, "a project that is gone does not lock anybody out"


async def test_a_page_of_another_site_cannot_log_somebody_in(tmp_path: Path) -> None:
    async with open_house(tmp_path) as house, browser(house) as http:
        sent = {"user": "owner", "password": PASSWORD}
        answer = await http.post("/login", data=sent, headers={"sec-fetch-site": "cross-site"})
        assert answer.status_code == 403
