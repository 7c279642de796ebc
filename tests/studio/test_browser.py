"""What only a browser can show: live charts and logs, filters without a reload, forms, chat, no barriers."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, Request, expect, sync_playwright

from nexus.infra.web.auth import SESSION_COOKIE
from nexus.launch.model import RUNS, RunState, TaskState
from nexus.track.model import ArtifactKind
from tests.studio.browsing import FLAGS, ROOT, Site, chromium, served, with_chat_model
from tests.studio.house import learning

pytestmark = pytest.mark.browser
AXE = ROOT / "node_modules/axe-core/axe.min.js"


@pytest.fixture(scope="module")
def engine() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium(), args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with served(tmp_path) as found:
        yield found
        assert not found.complaints


def open_page(engine: Browser, site: Site, *, scheme: str = "light", width: int = 1280) -> Page:
    context = engine.new_context(
        color_scheme="dark" if scheme == "dark" else "light", viewport={"width": width, "height": 844}
    )
    session = site.do(site.house.session())
    context.add_cookies([{"name": SESSION_COOKIE, "value": session, "url": site.url}])
    context.set_default_timeout(15_000)
    page = context.new_page()

    def complain(said: ConsoleMessage) -> None:
        if said.type in {"error", "warning"}:
            site.complaints.append(f"{page.url}: {said.text}")

    page.on("console", complain)
    page.on("pageerror", lambda error: site.complaints.append(f"{page.url}: {error}"))
    return page


def test_a_runs_page_lives(engine: Browser, site: Site) -> None:
    house = site.house
    run = site.do(house.run("digits"))
    owner = site.do(house.task(run, site.do(house.node("laptop"))))
    page = open_page(engine, site)
    page.goto(f"{site.url}/runs/{run.id}")
    expect(page.locator("x-charts .none")).to_be_visible()
    site.do(house.points(owner, learning(50)))
    site.do(house.log(owner, "\x1b[31mred\x1b[0m <b>not bold</b>", "plain"))
    expect(page.locator(".chart")).to_have_count(3)
    chart = page.locator(".chart", has_text="accuracy")
    expect(chart.locator("canvas")).to_be_visible()
    expect(page.locator(".log-lines .c1")).to_have_text("red")
    expect(page.locator(".log-lines")).to_contain_text("<b>not bold</b>")
    before = chart.locator(".last").inner_text()
    site.do(house.points(owner, {"accuracy": [0.999]}, start=50))
    expect(chart.locator(".last")).to_have_text("0.999")
    assert before != "0.999"


def test_what_a_run_uses_is_drawn_apart_from_what_it_logs(engine: Browser, site: Site) -> None:
    house = site.house
    run = site.do(house.run("digits"))
    owner = site.do(house.task(run, site.do(house.node("laptop"))))
    page = open_page(engine, site)
    page.goto(f"{site.url}/runs/{run.id}")
    uses = page.locator("section", has_text="What it uses")
    expect(uses).to_be_hidden()
    site.do(house.points(owner, {"system/cpu": [87.5], "system/memory_b": [1_234_000_000.0]}))
    expect(uses.locator(".chart", has_text="system/memory_b").locator(".last")).to_have_text("1.23 GB")
    expect(uses.locator(".chart", has_text="system/cpu").locator(".last")).to_have_text("87.5")
    expect(page.locator("x-charts .none")).to_be_visible()
    page.reload()
    expect(uses.locator(".chart")).to_have_count(2)
    expect(page.locator("x-charts .none")).to_be_visible()
    site.do(house.points(owner, {"loss": [0.5]}, start=1))
    expect(page.locator(".charts:not([of]) .chart")).to_have_count(1)
    expect(uses.locator(".chart")).to_have_count(2)


def test_the_head_follows_the_run(engine: Browser, site: Site) -> None:
    run = site.do(site.house.run("digits"))
    page = open_page(engine, site)
    page.goto(f"{site.url}/runs/{run.id}")
    expect(page.locator("#run-head .chip")).to_have_text("running")
    page.on("dialog", lambda dialog: dialog.accept())
    page.get_by_role("button", name="Stop").click()
    expect(page.locator("#events").locator("xpath=../..")).to_contain_text("stop asked")


def test_the_log_is_paused_and_searched(engine: Browser, site: Site) -> None:
    house = site.house
    run = site.do(house.run("digits"))
    owner = site.do(house.task(run, site.do(house.node("laptop"))))
    site.do(house.log(owner, *[f"line {number}" for number in range(3000)]))
    page = open_page(engine, site)
    page.goto(f"{site.url}/runs/{run.id}")
    lines = page.locator(".log-lines")
    expect(lines).to_contain_text("line 2999")
    page.get_by_role("button", name="Pause").click()
    at = lines.evaluate("lines => { lines.scrollTop = 50; return lines.scrollTop }")
    site.do(house.log(owner, "a new line"))
    expect(lines).to_contain_text("a new line")
    assert lines.evaluate("lines => lines.scrollTop") == at
    page.get_by_label("Search the log").fill("line 42")
    expect(page.locator("[data-note]")).to_have_text("11 lines match")
    expect(lines.locator("mark").first).to_have_text("line 42")
    page.get_by_label("Search the log").fill("")
    expect(lines).to_contain_text("a new line")


def test_filtering_runs_needs_no_reload(engine: Browser, site: Site) -> None:
    for name, state in (("digits", RunState.RUNNING), ("tune", RunState.FAILED), ("export", RunState.FAILED)):
        site.do(site.house.run(name, state))
    page = open_page(engine, site)
    page.goto(f"{site.url}/runs")
    page.evaluate("window.mark = 1")
    page.get_by_label("Find by name").press_sequentially("tun")
    expect(page.locator("#runs tbody tr")).to_have_count(1)
    expect(page).to_have_url(re.compile(r"text=tun"))
    assert page.evaluate("window.mark") == 1
    assert page.get_by_label("Find by name").input_value() == "tun"
    site.do(site.house.run("tune-2"))
    expect(page.locator("#runs tbody tr")).to_have_count(2)  # the list refreshes by itself, filtered as it was
    page.get_by_role("link", name="Failed").click()
    expect(page.locator("#runs tbody tr")).to_have_count(1)


def test_a_form_launches(engine: Browser, site: Site) -> None:
    site.do(site.house.node("laptop"))
    page = open_page(engine, site)
    page.goto(f"{site.url}/store")
    page.get_by_role("link", name="Hello").click()
    page.get_by_label("Count to").fill("7")
    expect(page.locator("#preview .command code")).to_have_text("nexus store launch hello --set count=7")
    expect(page.locator("#preview h2")).to_contain_text("Runs on")
    page.get_by_role("button", name="Launch").click()
    expect(page.locator("h1")).to_have_text("hello")
    run = site.do(site.house.records.get(RUNS, page.url.rsplit("/", 1)[1]))
    assert run is not None
    assert run.plan.roles[0].env["COUNT"] == "7"


def test_chat_streams_and_stops(engine: Browser, site: Site) -> None:
    words = ["Here ", "is **bold**", " and `code`", ".\n\n```py\n", "print('<i>')\n", "```\n", "\n- one\n", "- two"]
    gate = site.do(with_chat_model(site.house, "parrot", words))
    page = open_page(engine, site)
    page.goto(f"{site.url}/chat?model=parrot")
    page.get_by_label("Message").fill("Hello <b>you</b>")
    page.keyboard.press("Enter")
    answer = page.locator(".said.assistant")
    expect(answer.locator("strong")).to_have_text("bold")  # half of the answer is here while the engine still thinks
    expect(page.get_by_role("button", name="Stop")).to_be_visible()
    site.loop.call_soon_threadsafe(gate.set)
    expect(answer.locator("li")).to_have_text(["one", "two"])
    expect(answer.locator("pre")).to_have_text("print('<i>')")
    expect(answer.locator(".figures")).to_contain_text(re.compile(r"first token \d+ ms · [\d.]+ tok/s · 8 tokens"))
    expect(page.locator(".said.user")).to_have_text("Hello <b>you</b>")
    site.loop.call_soon_threadsafe(gate.clear)
    page.get_by_label("Message").fill("Again")
    page.keyboard.press("Enter")
    expect(page.locator(".said.assistant").nth(1)).to_contain_text("bold")
    page.get_by_role("button", name="Stop").click()
    expect(page.get_by_role("button", name="Send")).to_be_visible()
    assert not gate.is_set()
    site.loop.call_soon_threadsafe(gate.set)


def test_a_new_chat_knows_nothing_of_the_last(engine: Browser, site: Site) -> None:
    gate = site.do(with_chat_model(site.house, "parrot", ["Half ", "an answer"]))
    page = open_page(engine, site)
    asked: list[object] = []

    def note(request: Request) -> None:
        if request.method == "POST":
            asked.append((request.post_data_json or {})["messages"])

    page.on("request", note)
    page.goto(f"{site.url}/chat?model=parrot")
    page.get_by_label("Message").fill("First")
    page.keyboard.press("Enter")
    expect(page.locator(".said.assistant")).to_contain_text("Half")
    page.get_by_role("button", name="New chat").click()
    expect(page.get_by_role("button", name="Send")).to_be_visible()
    site.loop.call_soon_threadsafe(gate.set)
    page.get_by_label("Message").fill("Second")
    page.keyboard.press("Enter")
    expect(page.locator(".said.assistant")).to_contain_text("Half an answer")
    assert asked == [[{"role": "user", "content": "First"}], [{"role": "user", "content": "Second"}]]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_page_has_a_barrier(engine: Browser, site: Site, scheme: str) -> None:
    paths = furnish(site)
    page = open_page(engine, site, scheme=scheme)
    for path in paths:
        page.goto(site.url + path)
        page.wait_for_load_state("load")
        if path == paths[-1]:
            expect(page.locator(".chart canvas").first).to_be_visible()
        page.evaluate(AXE.read_text())
        found = page.evaluate("axe.run({resultTypes: ['violations']})")["violations"]
        assert not [(one["id"], [node["html"][:160] for node in one["nodes"]]) for one in found], path


def test_nothing_scrolls_sideways(engine: Browser, site: Site) -> None:
    paths = furnish(site)
    for width in (1280, 390):
        page = open_page(engine, site, width=width)
        for path in paths:
            page.goto(site.url + path)
            page.wait_for_load_state("load")
            assert page.evaluate("document.documentElement.scrollWidth") <= width, path
    page.get_by_role("button", name="Menu").click()
    page.get_by_role("link", name="Nodes").click()
    expect(page.locator("h1")).to_have_text("Nodes")


def test_the_theme_is_remembered(engine: Browser, site: Site) -> None:
    page = open_page(engine, site)
    page.goto(f"{site.url}/nodes")
    expect(page.locator("html")).to_have_attribute("data-theme", "light")
    page.get_by_role("button", name="Theme").click()
    page.reload()
    expect(page.locator("html")).to_have_attribute("data-theme", "dark")


def furnish(site: Site) -> list[str]:
    """Something on every page; the pages' addresses."""
    house = site.house
    node = site.do(house.node("a-machine-with-a-rather-long-name.example", price=1.2, labels={"site": "lab"}))
    run = site.do(house.run("digits"))
    failed = site.do(
        house.run("a-run-with-a-rather-long-name-indeed", RunState.FAILED, reason="exit code 1: " + "x" * 90)
    )
    queued = site.do(house.run("big", RunState.QUEUED, reason="no machine fits", rejections=("laptop: no GPU",)))
    owner = site.do(house.task(run, node, created=house.clock.now() - 90_000))
    site.do(house.task(failed, node, state=TaskState.FAILED))
    site.do(house.points(owner, learning(100)))
    site.do(house.log(owner, "\x1b[33mcareful\x1b[0m", "x" * 500))
    site.do(house.artifact(owner, "digits", b"weights", ArtifactKind.MODEL))
    site.do(
        house.artifact(owner, "figures/of/the-last-epoch/confusion-matrix-of-classes.png", b"", ArtifactKind.ARTIFACT)
    )
    site.do(with_chat_model(house, "parrot", ["hi"]))
    fixed = (
        "/runs /nodes /costs /costs?by=day /rounds /models /models/digits /endpoints /endpoints/parrot /chat /store "
        "/store/federated /login"
    )
    runs = [f"/runs/{one.id}" for one in (queued, failed, run)]
    return [*fixed.split(), f"/rounds/{queued.id}", *runs]
