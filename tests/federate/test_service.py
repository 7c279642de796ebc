"""Rounds through the real routes: who may post, who may see, and twice is once."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

import msgspec
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from nexus.federate.faces.api import router
from nexus.federate.model import ROUNDS, Outcome, Round, Turn
from nexus.federate.service import FederateService
from nexus.infra.clock import SystemClock
from nexus.infra.records.memory import MemoryRecords
from nexus.infra.web.errors import answer_errors
from nexus.kernel.identity import Principal, PrincipalKind, Role

RUN = "run_0000000000001"
PEOPLE = {
    "run": Principal(PrincipalKind.RUN, RUN, "ours"),
    "other-run": Principal(PrincipalKind.RUN, "run_0000000000002", "ours"),
    "viewer": Principal(PrincipalKind.USER, "v", "ours", Role.VIEWER),
    "member": Principal(PrincipalKind.USER, "m", "ours", Role.MEMBER),
    "stranger": Principal(PrincipalKind.USER, "s", "theirs", Role.ADMIN),
    "node": Principal(PrincipalKind.NODE, "n", "ours"),
}


@dataclass(frozen=True)
class Found:
    id: str
    project: str


class OneRun:
    async def find(self, project: str, run: str) -> Found | None:
        return Found(RUN, "ours") if project == "ours" and run in {RUN, "digits"} else None


def rounds(*numbers: int) -> list[Round]:
    turns = (
        Turn(client=4, samples=30, seconds=0.5, bytes_down=10, bytes_up=20, loss=0.7),
        Turn(client=9, outcome=Outcome.DROPPED, reason="its host went silent"),
    )
    return [Round(number=n, turns=turns, started=5.0, seconds=1.5, metrics={"accuracy": 0.9}) for n in numbers]


@pytest.fixture
def records() -> MemoryRecords:
    return MemoryRecords()


@pytest.fixture
def http(records) -> TestClient:
    app = FastAPI()
    answer_errors(app)

    async def authenticate(token: str) -> Principal | None:
        return PEOPLE.get(token)

    app.state.authenticate = authenticate
    app.include_router(router(FederateService(records, OneRun(), SystemClock())))
    return TestClient(app)


def post(http: TestClient, who: str, *numbers: int, run: str = RUN) -> Any:
    body = msgspec.json.encode(rounds(*numbers))
    return http.post(f"/v1/runs/{run}/rounds", content=body, headers={"authorization": f"Bearer {who}"})


def numbers(http: TestClient, who: str = "viewer", **params: int) -> list[int]:
    answer = http.get(f"/v1/runs/{RUN}/rounds", params=params, headers={"authorization": f"Bearer {who}"})
    assert answer.status_code == 200
    return [item["number"] for item in answer.json()]


def test_a_run_posts_its_rounds_and_its_project_sees_them(http, records):
    assert post(http, "run", 2, 1).json() == {"kept": 2}
    assert post(http, "run", 1, 2, 3).json() == {"kept": 1}
    assert numbers(http) == [1, 2, 3]
    assert numbers(http, after=1, limit=1) == [2]
    answer = http.get(f"/v1/runs/{RUN}/rounds", headers={"authorization": "Bearer viewer"}).json()[0]
    assert [turn["outcome"] for turn in answer["turns"]] == ["accepted", "dropped"]
    events = asyncio.run(records.events(subject=RUN))
    assert [event.data["number"] for event in events] == [2, 1, 3]


def test_a_run_goes_by_its_name_too(http):
    assert post(http, "run", 1, run="digits").json() == {"kept": 1}
    assert post(http, "member", 1, 2, run="digits").json() == {"kept": 1}
    assert post(http, "other-run", 3, run="digits").status_code == 403
    answer = http.get("/v1/runs/digits/rounds", headers={"authorization": "Bearer viewer"})
    assert [item["number"] for item in answer.json()] == numbers(http) == [1, 2]


@pytest.mark.parametrize(
    ("who", "status"), [("other-run", 403), ("viewer", 403), ("node", 403), ("stranger", 404), ("nobody", 401)]
)
def test_nobody_else_may_post(who, status, http):
    assert post(http, who, 1).status_code == status
    assert numbers(http) == []


def test_members_may_post_and_strangers_may_not_see(http):
    assert post(http, "member", 1).status_code == 200
    assert http.get(f"/v1/runs/{RUN}/rounds", headers={"authorization": "Bearer stranger"}).status_code == 404
    assert post(http, "run", 1, run="run_0000000000009").status_code == 404


def test_what_is_no_round_is_refused(http):
    for body in (b"", b"{}", b'[{"number": "x"}]', b"[{}]"):
        answer = http.post(f"/v1/runs/{RUN}/rounds", content=body, headers={"authorization": "Bearer run"})
        assert answer.status_code == 400


@pytest.mark.anyio
async def test_more_rounds_than_a_page_are_all_there(records):
    service = FederateService(records, OneRun(), SystemClock())
    await service.post(PEOPLE["run"], RUN, rounds(*range(1, 1102)))
    found = await service.rounds(PEOPLE["viewer"], RUN, after=3, limit=5000)
    assert [item.number for item in found] == list(range(4, 1102))


@pytest.mark.anyio
async def test_posting_the_same_rounds_at_once_keeps_each_once(records):
    service = FederateService(records, OneRun(), SystemClock())
    posts = [service.post(PEOPLE["run"], RUN, rounds(1, 2, 3)) for _ in range(4)]
    assert sum(await asyncio.gather(*posts)) == 3
    assert len(await records.find(ROUNDS, {"run": RUN})) == 3
