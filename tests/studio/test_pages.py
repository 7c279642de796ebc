"""Every page over the real services, in this process: what it says, who may see it, what its buttons do."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from html.parser import HTMLParser
from pathlib import Path

import httpx
import pytest

from nexus.deploy.model import Deployment
from nexus.federate.model import Outcome, Round, Turn
from nexus.infra.hints import Hints
from nexus.infra.web.auth import SESSION_COOKIE
from nexus.kernel.events import Event
from nexus.kernel.identity import Role
from nexus.launch.model import (
    MACHINES,
    RUNS,
    TASKS,
    Capacity,
    Machine,
    Offer,
    RolePlan,
    RunPlan,
    RunState,
    Task,
    TaskState,
)
from nexus.studio.pages import PAGES
from nexus.studio.pages.run import in_words
from nexus.studio.render import STATIC
from nexus.studio.stream import Cursors, run_events
from nexus.track.model import ArtifactKind
from tests.studio.house import OWNER, PROJECT, House, learning, open_house

pytestmark = pytest.mark.anyio
BASE = "http://nexus.test"


@dataclass
class Visit:
    """A house and a browser that is logged in."""

    house: House
    http: httpx.AsyncClient

    async def text(self, path: str, **headers: str) -> str:
        response = await self.http.get(path, headers=headers)
        assert response.status_code == 200, response.text
        return response.text


def browser(house: House, session: str = "") -> httpx.AsyncClient:
    cookies = {SESSION_COOKIE: session} if session else {}
    return httpx.AsyncClient(transport=httpx.ASGITransport(house.app), base_url=BASE, cookies=cookies)


@pytest.fixture
async def visit(tmp_path: Path) -> AsyncIterator[Visit]:
    async with open_house(tmp_path) as house, browser(house, await house.session()) as http:
        yield Visit(house, http)


# ------------------------------------------------------------------ coming in


async def test_without_a_session_every_page_leads_to_the_login(visit: Visit) -> None:
    async with browser(visit.house) as stranger:
        for name in PAGES:
            response = await stranger.get(PAGES.get(name).path)
            assert response.status_code == 303, name
            assert response.headers["location"].startswith("/login?next=/")
        page = (await stranger.get("/login")).text
    assert "nexus open" in page


async def test_a_login_link_works_once(visit: Visit) -> None:
    code = (await visit.house.access.login_code(OWNER)).secret
    async with browser(visit.house) as new:
        response = await new.get(f"/login/{code}?next=/nodes")
        assert response.headers["location"] == "/nodes"
        cookie = response.headers["set-cookie"].lower()
        assert "httponly" in cookie
        assert "samesite=lax" in cookie
        assert (await new.get("/nodes")).status_code == 200
        again = await new.get(f"/login/{code}")
        assert again.status_code == 401
        assert "already used" in again.text


@pytest.mark.parametrize("target", ["//evil.test", "https://evil.test", "/\\evil.test"])
async def test_a_login_link_leads_nowhere_else(visit: Visit, target: str) -> None:
    code = (await visit.house.access.login_code(OWNER)).secret
    response = await visit.http.get(f"/login/{code}", params={"next": target})
    assert response.headers["location"] == "/"


async def test_logging_out_ends_the_session(visit: Visit) -> None:
    session = visit.http.cookies[SESSION_COOKIE]
    assert (await visit.http.post("/logout", headers={"origin": BASE})).headers["location"] == "/login"
    async with browser(visit.house, session) as old:
        assert (await old.get("/runs")).status_code == 303


async def test_another_sites_form_changes_nothing(visit: Visit) -> None:
    run = await visit.house.run("digits")
    response = await visit.http.post(f"/runs/{run.id}/stop", headers={"origin": "https://evil.test"})
    assert response.status_code == 403
    stored = await visit.house.records.get(RUNS, run.id)
    assert stored is not None
    assert stored.wanted == "run"


async def test_a_viewer_has_no_buttons_and_may_not_press_them(visit: Visit) -> None:
    run = await visit.house.run("digits")
    async with browser(visit.house, await visit.house.session(Role.VIEWER)) as viewer:
        assert "/stop" not in (await viewer.get(f"/runs/{run.id}")).text
        assert (await viewer.post(f"/runs/{run.id}/stop")).status_code == 403


# ------------------------------------------------------------------ what pages say


async def test_pages_are_safe_and_load_nothing_from_elsewhere(visit: Visit) -> None:
    run = await visit.house.run("digits", kind="federate")
    paths = ["/runs", f"/runs/{run.id}", "/nodes", "/rounds", f"/rounds/{run.id}", "/models", "/endpoints", "/chat",
             "/store", "/store/hello", "/login"]  # fmt: skip
    for path in paths:
        response = await visit.http.get(path)
        assert response.status_code == 200, path
        assert response.headers["content-security-policy"].startswith("default-src 'self'")
        assert response.headers["x-frame-options"] == "DENY"
        assert '<html lang="en">' in response.text
        assert response.text.count("<h1") == 1, path
        Tags().feed(response.text)
        assert not re.findall(r"""(?:src|href|action)=["'](?:https?:)?//""", response.text), path
        assert not re.findall(r"<script(?![^>]*\bsrc=)|\son\w+=|\sstyle=", response.text), path


class Tags(HTMLParser):
    """Every end tag ends what was begun last, or htmx swaps another part than the one that was meant."""

    VOID = frozenset({"meta", "link", "input", "br", "img", "hr", "use"})

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: object) -> None:
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: object) -> None:
        pass

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.VOID:
            assert self.open, f"</{tag}> ends nothing at {self.getpos()}"
            assert self.open.pop() == tag, f"</{tag}> at {self.getpos()}"


async def test_empty_pages_say_the_next_step(visit: Visit) -> None:
    assert "nexus launch" in await visit.text("/runs")
    assert "nexus token join" in await visit.text("/nodes")
    assert "nexus chat" in await visit.text("/chat")
    assert "nexus store launch federated" in await visit.text("/rounds")


async def test_the_list_of_runs_filters_by_state_and_text(visit: Visit) -> None:
    node = await visit.house.node("laptop")
    running = await visit.house.run("digits")
    await visit.house.task(running, node)
    await visit.house.run("old", RunState.FAILED, reason="exit code 1")
    page = await visit.text("/runs")
    assert "laptop" in page
    assert "exit code 1" in page
    failed = await visit.text("/runs?state=failed")
    assert ">old<" in failed
    assert ">digits<" not in failed
    assert ">digits<" in await visit.text("/runs?text=DIG")
    assert "Nothing matches" in await visit.text("/runs?text=nothing-like-this")


async def test_a_refresh_is_only_the_list(visit: Visit) -> None:
    await visit.house.run("digits")
    part = await visit.text("/runs?text=dig", **{"hx-request-type": "partial"})
    assert part.lstrip().startswith('<div id="runs"')
    assert 'hx-get="/runs?text=dig"' in part


async def test_older_runs_are_pages_away(visit: Visit) -> None:
    for number in range(55):
        await visit.house.run(f"run-{number:02}", created=visit.house.clock.now() + number)
    first = await visit.text("/runs")
    assert ">run-54<" in first
    assert ">run-04<" not in first
    older = re.search(r'href="(/runs\?before=[^"]+)"', first)
    assert older
    second = await visit.text(older[1])
    assert ">run-04<" in second
    assert ">run-54<" not in second


async def test_a_run_that_waits_says_every_reason(visit: Visit) -> None:
    run = await visit.house.run("big", RunState.QUEUED, reason="no machine fits", rejections=("laptop: no GPU",))
    page = await visit.text(f"/runs/{run.id}")
    assert "no machine fits" in page
    assert "laptop: no GPU" in page


async def test_what_a_job_says_is_text(visit: Visit) -> None:
    evil = "<script>alert(1)</script>"
    run = await visit.house.run("digits", RunState.FAILED, reason=evil, job=f"run: echo {evil}")
    for path in ("/runs", f"/runs/{run.id}"):
        page = await visit.text(path)
        assert evil not in page
        assert "&lt;script&gt;" in page


async def test_a_run_of_another_project_does_not_exist(visit: Visit) -> None:
    run = await visit.house.run("theirs")
    theirs = replace(run, id="run_0000000000000", project="x", version=0)
    await visit.house.records.apply((RUNS, theirs))
    for path in ("", "/stream", "/log.txt", "/head"):
        assert (await visit.http.get(f"/runs/{theirs.id}{path}")).status_code == 404


# ------------------------------------------------------------------ a run's page


def test_events_are_told_in_words() -> None:
    data = {
        "role": "main",
        "index": 0,
        "node": "node_1",
        "task": "task_1",
        "attempt": 1,
        "exit_code": 3,
        "cause": "exit",
    }
    told = in_words(Event("task.failed", "run_1", PROJECT, 0.0, data=data), {"node_1": "laptop"})
    assert (told.words, told.detail, told.tone) == ("Task failed", "main-0 on laptop · attempt 2 · exit code 3", "bad")
    quiet = in_words(Event("run.succeeded", "run_1", PROJECT, 0.0, data={"attempt": 0, "exit_code": 0}), {})
    assert (quiet.words, quiet.detail, quiet.tone) == ("Run succeeded", "", "good")


async def test_stop_and_run_again(visit: Visit) -> None:
    run = await visit.house.run("digits")
    await visit.http.post(f"/runs/{run.id}/stop")
    stopped = await visit.house.records.get(RUNS, run.id)
    assert stopped is not None
    assert stopped.wanted == "stop"
    ended = await visit.house.run("old", RunState.SUCCEEDED)
    response = await visit.http.post(f"/runs/{ended.id}/again")
    again = await visit.house.records.get(RUNS, response.headers["location"].rsplit("/", 1)[1])
    assert again is not None
    assert (again.name, again.plan, again.state) == ("old", ended.plan, RunState.QUEUED)


async def test_the_stream_tells_history_news_and_the_end(visit: Visit) -> None:
    house = visit.house
    node = await house.node("laptop")
    run = await house.run("digits", RunState.SUCCEEDED, ended=house.clock.now())
    owner = await house.task(run, node, state=TaskState.SUCCEEDED)
    await house.points(owner, learning(3000))
    await house.log(owner, "one", "two")
    first = await visit.text(f"/runs/{run.id}/stream")
    assert first.count("event: series") == 1
    assert '"key":"loss","line":"worker-0"' in first
    assert '"whole":true' in first
    assert len(first) < 200_000  # 3,000 points of three metrics, thinned
    assert '"text":"two"' in first
    assert first.rstrip().endswith("data: null")
    cursor = re.findall(r"^id: (.+)$", first, re.MULTILINE)[-1]
    await house.points(owner, {"loss": [0.5]}, start=3000)
    await house.log(owner, "three")
    rest = await visit.text(f"/runs/{run.id}/stream", **{"last-event-id": cursor})
    assert '"steps":[3000],"values":[0.5],"last":0.5,"whole":false' in rest
    assert '"text":"three"' in rest
    assert '"text":"two"' not in rest
    assert "event: run" not in rest


async def test_the_stream_sleeps_until_something_happens(visit: Visit) -> None:
    house = visit.house
    run = await house.run("digits")
    owner = await house.task(run, await house.node("laptop"))
    heard: asyncio.Queue[bytes] = asyncio.Queue()

    async def listen() -> None:
        async for piece in run_events(house.services, OWNER, run.id, Cursors()):
            await heard.put(piece)

    async def next_event() -> bytes:
        return await asyncio.wait_for(heard.get(), 5)

    listening = asyncio.create_task(listen())
    assert [await next_event(), await next_event()][0] == b"retry: 1000\n\n"  # then: the run's state
    hints = house.services.hints
    assert isinstance(hints, Hints)
    while not hints.topics():  # noqa: ASYNC110 - until it has looked again, and sleeps
        await asyncio.sleep(0.01)
    began = house.clock.monotonic()
    await house.log(owner, "one")
    assert b'"text":"one"' in await next_event()
    assert house.clock.monotonic() - began < 0.5
    await house.points(owner, {"loss": [0.5]})
    assert b"event: series" in await next_event()
    listening.cancel()
    await asyncio.gather(listening, return_exceptions=True)
    await asyncio.sleep(0)
    assert hints.topics() == set()


async def test_a_run_with_very_many_metrics_does_not_drown_its_page(visit: Visit) -> None:
    run = await visit.house.run("digits", RunState.SUCCEEDED)
    owner = await visit.house.task(run, await visit.house.node("laptop"), state=TaskState.SUCCEEDED)
    await visit.house.points(owner, {f"key/{number:04}": [1.0] for number in range(1000)})
    assert "700 more curves are not drawn here" in await visit.text(f"/runs/{run.id}")
    told = await visit.text(f"/runs/{run.id}/stream")
    assert '"key":"key/0299"' in told
    assert '"key":"key/0300"' not in told
    cursor = re.findall(r"^id: (.+)$", told, re.MULTILINE)[-1]
    assert "event: series" not in await visit.text(f"/runs/{run.id}/stream", **{"last-event-id": cursor})


async def test_numbers_that_are_none_are_gaps(visit: Visit) -> None:
    run = await visit.house.run("digits", RunState.SUCCEEDED)
    owner = await visit.house.task(run, await visit.house.node("laptop"), state=TaskState.SUCCEEDED)
    await visit.house.points(owner, {"loss": [1.0, float("nan"), float("inf"), 2.0]})
    assert '"values":[1.0,null,null,2.0]' in await visit.text(f"/runs/{run.id}/stream")


async def test_a_page_that_fell_behind_skips_and_says_so(visit: Visit) -> None:
    run = await visit.house.run("digits", RunState.SUCCEEDED)
    owner = await visit.house.task(run, await visit.house.node("laptop"), state=TaskState.SUCCEEDED)
    await visit.house.log(owner, "first")
    cursor = re.findall(r"^id: (.+)$", await visit.text(f"/runs/{run.id}/stream"), re.MULTILINE)[-1]
    await visit.house.log(owner, *[f"line {number}" for number in range(3000)])
    rest = await visit.text(f"/runs/{run.id}/stream", **{"last-event-id": cursor})
    assert '"skipped":2600' in rest
    assert '"text":"line 2999"' in rest
    assert '"text":"line 1000"' not in rest


async def test_the_log_is_searched_and_downloaded_whole(visit: Visit) -> None:
    run = await visit.house.run("digits")
    owner = await visit.house.task(run, await visit.house.node("laptop"))
    await visit.house.log(owner, *[f"step {number}" for number in range(2500)])
    found = (await visit.http.get(f"/runs/{run.id}/log/search", params={"text": "step 17"})).json()
    assert [line["text"] for line in found][:2] == ["step 17", "step 170"]
    text = await visit.text(f"/runs/{run.id}/log.txt")
    assert text.count("\n") == 2500
    assert text.splitlines()[-1].endswith("Z worker-0 step 2499")


async def test_artifacts_are_listed_once_and_downloaded(visit: Visit) -> None:
    run = await visit.house.run("digits")
    owner = await visit.house.task(run, await visit.house.node("laptop"))
    await visit.house.artifact(owner, "out/report.html", b"<b>old</b>", ArtifactKind.ARTIFACT)
    await visit.house.artifact(owner, "out/report.html", b"<b>new</b>", ArtifactKind.ARTIFACT)
    page = await visit.text(f"/runs/{run.id}")
    assert page.count("Download out/report.html") == 1
    response = await visit.http.get(f"/runs/{run.id}/artifacts/out/report.html")
    assert response.content == b"<b>new</b>"
    assert response.headers["content-disposition"] == "attachment; filename*=UTF-8''report.html"
    assert (await visit.http.get(f"/runs/{run.id}/artifacts/nothing")).status_code == 404
    await visit.house.artifact(owner, "figures", b"PK", ArtifactKind.ARTIFACT, packed=True)
    response = await visit.http.get(f"/runs/{run.id}/artifacts/figures")
    assert response.headers["content-disposition"].endswith("figures.zip")  # as `infra.package` writes them


# ------------------------------------------------------------------ the other pages


async def test_nodes_show_what_is_held_of_them(visit: Visit) -> None:
    node = await visit.house.node("laptop", price=1.5, labels={"site": "lab"})
    run = await visit.house.run("digits")
    await visit.house.task(run, node)
    page = await visit.text("/nodes")
    for said in ("2 of 8 cores", "4 GB of 32 GB", "$1.50 per hour", "site=lab", f"/runs/{run.id}"):
        assert said in page


async def test_a_shared_node_shows_that_others_use_it_and_not_who(visit: Visit) -> None:
    node = await visit.house.node("lab", shared=True)
    theirs = Task(
        id="task_theirs", project="other", created=0.0, run="run_secret", role="hidden", index=0, attempt=0,
        node=node.id, epoch=1, state=TaskState.RUNNING, cpu=3,
    )  # fmt: skip
    await visit.house.add(TASKS, theirs)
    page = await visit.text("/nodes")
    for said in (">shared</span>", "3 of 8 cores", "Other projects' tasks run here: 1."):
        assert said in page
    assert "run_secret" not in page and "hidden-0" not in page


async def test_machines_that_are_starting_stand_among_the_nodes(visit: Visit) -> None:
    offer = Offer(id="ssh:lab/gpu-07", provider="ssh", machine="gpu-07", capacity=Capacity(), price=0.5)
    machine = Machine(id="mach_1", project=PROJECT, created=1.0, fleet="fleet_1", offer=offer, run="run_1")
    await visit.house.records.apply((MACHINES, machine))
    page = await visit.text("/nodes")
    for said in ("gpu-07", "wanted", "$0.50 per hour", "/runs/run_1"):
        assert said in page


async def test_rounds_show_who_took_part(visit: Visit) -> None:
    run = await visit.house.run("fed", RunState.SUCCEEDED, kind="federate")
    turns = (
        Turn(client=3, bytes_up=1000, notes={"contribution": 0.0625, "trust": 0.25}),
        Turn(client=7, outcome=Outcome.DROPPED, reason="its host went silent"),
        Turn(client=9, outcome=Outcome.REFUSED),
    )
    await visit.house.federate.post(
        OWNER,
        run.id,
        [Round(number=1, turns=turns, seconds=2.5, metrics={"accuracy": 0.5}, notes={"epsilon": 3.25})],
    )
    page = await visit.text(f"/rounds/{run.id}")
    for said in (
        "client 3, round 1: trained",
        "client 7, round 1: dropped",
        "client 9, round 1: refused",
        "1 / 3",
        "2.5 s",
        'class="cell trained doubted"',
        "its host went silent",
        ">epsilon</th>",
        ">3.25</td>",
        ">Contribution</th>",
        ">Suspicion</th>",
        ">0.75</td>",
    ):
        assert said in page
    assert "fed" in await visit.text("/rounds")


async def test_a_model_leads_to_its_run_and_to_an_endpoint(visit: Visit) -> None:
    run = await visit.house.run("digits")
    owner = await visit.house.task(run, await visit.house.node("laptop"))
    await visit.house.points(owner, {"accuracy": [0.91]})
    await visit.house.artifact(owner, "digits", b"weights", ArtifactKind.MODEL)
    page = await visit.text("/models")
    assert "0.91" in page
    assert f"/runs/{run.id}" in await visit.text("/models/digits")
    plan = RunPlan(kind="deploy", roles=(RolePlan(name="replica", argv=("serve",)),))
    await visit.house.deploy.deploy(Deployment(name="digits", plan=plan), project=PROJECT, user="ada")
    response = await visit.http.post("/models/digits/deploy", data={"version": "1", "endpoint": "digits"})
    assert response.headers["location"] == "/endpoints/digits"
    endpoint = await visit.text("/endpoints/digits")
    assert "model://digits@1" in endpoint
    assert "creating" in endpoint
    assert "/endpoints/digits" in await visit.text("/endpoints")


async def test_a_language_model_is_deployed_by_one_button(visit: Visit) -> None:
    run = await visit.house.run("tune")
    owner = await visit.house.task(run, await visit.house.node("laptop"))
    await visit.house.artifact(owner, "my-assistant", b"weights", ArtifactKind.MODEL, engine="llama")
    assert ">Deploy</button>" in await visit.text("/models/my-assistant")
    form = {"version": "1", "endpoint": "my-assistant"}
    await visit.http.post("/models/my-assistant/deploy", data=form)
    endpoint = await visit.text("/endpoints/my-assistant")
    assert "model://my-assistant@1" in endpoint
    assert "/chat?model=my-assistant" in endpoint
    assert "my-assistant" in await visit.text("/chat")


async def test_a_form_is_checked_previewed_and_launched(visit: Visit) -> None:
    await visit.house.node("laptop")
    page = await visit.text("/store/hello")
    assert "Runs on laptop" in page
    assert "nexus store launch hello" in page
    assert 'name="count"' in page
    part = await visit.http.post("/store/hello/preview", data={"who": "you", "count": "3"})
    assert "nexus store launch hello --set who=you --set count=3" in part.text
    wrong = await visit.http.post("/store/hello", data={"who": "you", "count": "many"})
    assert wrong.status_code == 400
    assert "is not a whole number" in wrong.text
    assert 'aria-invalid="true"' in wrong.text
    assert 'value="you"' in wrong.text
    response = await visit.http.post("/store/hello", data={"who": "you", "count": "3"})
    run = await visit.house.records.get(RUNS, response.headers["location"].rsplit("/", 1)[1])
    assert run is not None
    assert run.plan.roles[0].env["COUNT"] == "3"
    assert run.tags["template"] == "hello"
    assert run.plan.workspace


async def test_an_unknown_page_of_ours_is_a_page(visit: Visit) -> None:
    response = await visit.http.get("/models/nothing")
    assert response.status_code == 404
    assert "<h1" in response.text
    assert "nexus models" in response.text


async def test_static_files_stay_in_their_folder(visit: Visit) -> None:
    kept = await visit.http.get("/static/abc/app.css")
    assert "immutable" in kept.headers["cache-control"]
    for name in ("%2e%2e/page.py", "..%2Fpage.py", "npm%2F..%2F..%2Fpage.py", "nothing.js"):
        response = await visit.http.get(f"/static/abc/{name}", follow_redirects=True)
        assert response.status_code == 404, name
        assert "class Framed" not in response.text


def test_islands_stay_small_and_inside() -> None:
    for file in STATIC.glob("*.js"):
        text = file.read_text()
        assert len(text.splitlines()) <= 150, file.name
        assert not re.findall(r"https?://|\beval\(|new Function|document\.write", text), file.name


def test_files_and_lines_of_pages_agree() -> None:
    folder = Path(__file__).parents[2] / "src/nexus/studio/pages"
    files = {path.stem for path in folder.glob("*.py")} - {"__init__"}
    assert files == set(PAGES.table)
    for name in PAGES:
        assert PAGES.get(name).path.startswith("/")
