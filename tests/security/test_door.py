"""What is refused before anybody asks who calls, and how answers leave."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import uvicorn

from nexus.app.serve import check_exposure, listen
from nexus.app.settings import load_settings
from nexus.infra.visible import visible
from nexus.infra.web import door as door_module
from nexus.infra.web import patience
from nexus.infra.web.door import JSON_B, is_own_name
from nexus.infra.web.limits import Buckets
from nexus.kernel.errors import UsageError
from tests.ports import free_port
from tests.security.house import House, open_house, routes_of

pytestmark = pytest.mark.anyio


# --------------------------------------------------------------------------- names


@pytest.mark.parametrize(
    ("host", "own"),
    [
        *(("127.0.0.1:7717", True), ("localhost", True), ("[::1]:7717", True), ("10.1.2.3", True)),
        *(("nexus.lab", True), ("NEXUS.lab:443", True), ("nexus.lab.", True)),
        *(("evil.example", False), ("127.0.0.1.evil.example", False), ("nexus.lab.evil.example", False), ("", False)),
        *(("localhost.evil.example:7717", False), ("[::1].evil.example", False), ("evil.example:127.0.0.1", False)),
    ],
)
def test_a_name_is_ours_or_it_is_not(host: str, own: bool) -> None:
    assert is_own_name(["nexus.lab"])(host) is own


async def test_a_name_that_is_not_ours_gets_nothing(house: House) -> None:
    async with house.client(door=True) as client:
        for path in ("/healthz", "/v1/runs", "/login", "/static/-/app.css"):
            assert (await client.get(path, headers={"host": "evil.example"})).status_code == 421
            assert (await client.get(path, headers={"host": "localhost"})).status_code != 421


async def test_a_good_token_does_not_help_a_page_that_has_rebound_its_name(house: House) -> None:
    _, token = await house.owner()
    async with house.client(token, door=True, host="evil.example:7717") as page:
        for method in ("GET", "POST", "DELETE"):
            answer = await page.request(method, "/v1/runs", headers={"origin": "http://evil.example:7717"})
            assert answer.status_code == 421
            assert "NEXUS_HOSTS" in answer.json()["error"]["hint"]


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "::1", "localhost"])
def test_this_machine_itself_needs_no_tls(tmp_path: Path, host: str) -> None:
    check_exposure(load_settings({}, home=tmp_path, host=host))


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.7", "nexus.lab", ""])
def test_a_network_gets_no_plain_http_by_accident(tmp_path: Path, host: str) -> None:
    with pytest.raises(UsageError, match="without TLS") as caught:
        check_exposure(load_settings({}, home=tmp_path, host=host))
    assert "--plain-http" in caught.value.hint
    check_exposure(load_settings({}, home=tmp_path, host=host, plain_http=True))


# --------------------------------------------------------------------------- bodies and heads


async def test_a_body_has_a_bound_before_anybody_is_asked_who_they_are(house: House) -> None:
    async def much() -> AsyncIterator[bytes]:
        for _ in range(JSON_B // 1_000_000 + 2):
            yield b"x" * 1_000_000

    async with house.client(door=True) as stranger:
        said = await stranger.post("/v1/runs", headers={"content-length": str(JSON_B + 1)})
        assert said.status_code == 413
        unsaid = await stranger.post("/v1/runs", content=much(), headers={"content-type": "application/json"})
        assert unsaid.status_code == 413
        assert unsaid.headers["connection"] == "close"


async def test_deep_json_is_an_error_of_the_caller(house: House) -> None:
    _, token = await house.owner()
    deep = b'{"name":' + b"[" * 100_000 + b"]" * 100_000 + b"}"
    async with house.client(token, door=True) as client:
        for path in ("/v1/runs", "/v1/tokens", "/v1/models/x/versions", "/v1/runs/plan"):
            answer = await client.post(path, content=deep, headers={"content-type": "application/json"})
            assert answer.status_code in {400, 422}, (path, answer.status_code)


@contextmanager
def served(house: House) -> Iterator[int]:
    """The application on a real socket, as `nexus up` serves it; gives its port."""
    listening = listen("127.0.0.1", free_port())
    protocol = patience.PatientProtocol
    server = uvicorn.Server(
        uvicorn.Config(house.door, http=protocol, log_config=None, access_log=False, lifespan="off")
    )
    server.config.load()
    thread = threading.Thread(target=lambda: asyncio.run(server.serve([listening])), daemon=True)
    thread.start()
    try:
        yield int(listening.getsockname()[1])
    finally:
        server.should_exit = True
        thread.join(10)


async def spoken(port: int, *pieces: bytes, pause_s: float = 0.0) -> tuple[bytes, float]:
    """What a raw connection is answered, and how long it was kept."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    began = time.monotonic()
    try:
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(pause_s)
        answer = await asyncio.wait_for(reader.read(), 20)
    except ConnectionError:
        answer = b""
    finally:
        writer.close()
    return answer, time.monotonic() - began


async def test_who_does_not_get_to_the_point_is_let_go(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """Slow-loris: a head that comes letter by letter, a body that does not come, a connection that says nothing."""
    monkeypatch.setattr(patience, "HEAD_S", 0.5)
    monkeypatch.setattr(door_module, "_STALL_S", 0.5)
    head = b"POST /v1/runs HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n"
    with served(house) as port:
        slow, kept_s = await spoken(port, *(bytes([letter]) for letter in head[:60]), pause_s=0.02)
        assert kept_s < 15
        assert slow == b"" or slow.startswith(b"HTTP/1.1 408")
        silent, kept_s = await spoken(port)
        assert kept_s < 15
        assert silent.startswith(b"HTTP/1.1 408")
        half, kept_s = await spoken(port, head + b'{"name":')
        assert kept_s < 15
        assert half.startswith((b"HTTP/1.1 408", b"HTTP/1.1 400"))
        assert b"connection: close" in half.lower()
        fine, _ = await spoken(port, b"GET /healthz HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\n\r\n")
        assert fine.startswith(b"HTTP/1.1 200")


async def test_a_head_has_a_bound(house: House) -> None:
    with served(house) as port:
        head = b"GET /healthz HTTP/1.1\r\nhost: 127.0.0.1\r\n"
        big = [b"x-%d: %b\r\n" % (number, b"y" * 8000) for number in range(40)]
        answer, _ = await spoken(port, head, *big, pause_s=0.005)
        assert answer == b"" or answer.startswith(b"HTTP/1.1 431")
        fine, _ = await spoken(port, head + b"x: y\r\nconnection: close\r\n\r\n")
        assert fine.startswith(b"HTTP/1.1 200")


# --------------------------------------------------------------------------- how often


def test_a_bucket_fills_again_and_keys_do_not_share_it() -> None:
    bucket = Buckets(rate=2.0, burst=3.0)
    assert [bucket.take("a", 0.0) for _ in range(3)] == [0.0] * 3
    assert bucket.take("a", 0.0) == pytest.approx(0.5)
    assert bucket.take("b", 0.0) == 0.0
    assert bucket.take("a", 0.5) == 0.0
    assert bucket.take("a", 0.5) > 0
    assert all(Buckets(rate=0.0, burst=1.0).take("a", 0.0) == 0.0 for _ in range(100))
    many = Buckets(rate=1.0, burst=1.0)
    for number in range(30_000):
        many.take(str(number), 0.0)
    assert len(many._left) <= 20_000


async def test_a_stranger_who_insists_is_slowed_down_and_written_down_a_few_times(house: House) -> None:
    await house.owner()
    async with house.client("nx_u_guess", door=True) as stranger:
        answers = [await stranger.get("/v1/runs") for _ in range(130)]
    assert {answer.status_code for answer in answers} == {401, 429}
    late = answers[-1]
    assert int(late.headers["retry-after"]) >= 1
    assert late.json()["error"]["code"] == "throttled"
    written = [one for one in await house.services.records.events() if one.kind == "token.denied"]
    assert 1 <= len(written) <= 5
    assert "nx_u_guess" not in str(written)
    _, token = await house.owner()
    async with house.client(token, door=True) as person:
        assert (await person.get("/v1/runs")).status_code == 200, "others at that address are let in"


async def test_passwords_cannot_be_guessed_by_the_thousand(house: House) -> None:
    await house.owner()
    async with house.client(door=True) as stranger:
        assert (await stranger.post("/v1/login", json={"user": "owner", "password": "guess"})).status_code == 401
        limits = house.app.state.limits
        while not limits.logins.take("127.0.0.1", limits.monotonic()):
            pass  # as somebody who has guessed that often
        for guess in ({"user": "owner", "password": "guess"}, {"user": "mia", "password": "guess"}):
            assert (await stranger.post("/v1/login", json=guess)).status_code == 429
            assert (await stranger.post("/login", data=guess)).status_code == 429


async def test_submits_have_a_bound_of_their_own(tmp_path: Path) -> None:
    async with open_house(tmp_path, submit_rate=1.0) as house:
        _, token = await house.owner()
        plan = {"kind": "command", "roles": [{"name": "main", "argv": ["true"]}]}
        async with house.client(token) as client:
            answers = [await client.post("/v1/runs", json={"name": "x", "plan": plan}) for _ in range(6)]
    assert [answer.status_code for answer in answers] == [201, 201, 201, 201, 429, 429]


# --------------------------------------------------------------------------- how answers leave


async def test_no_answer_is_taken_for_a_page(house: House) -> None:
    _, token = await house.owner()
    async with house.client(token, door=True) as client:
        for method, path in routes_of(house.app.routes):
            if method != "GET" or "{" in path or path == "/v1/events":
                continue
            answer = await client.get(path)
            assert answer.headers["x-content-type-options"] == "nosniff", path
            policy = answer.headers["content-security-policy"]
            assert "frame-ancestors 'none'" in policy, path
            assert "unsafe" not in policy, path


async def test_a_stream_ends_when_its_reader_may_not_any_more(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(door_module, "_RECHECK_S", 0.0)
    mia = await house.tenant("mia", "ours")

    async def app(scope: dict[str, object], receive: object, send: object) -> None:
        """A stream of events that goes on for ever."""
        scope["app"] = house.app
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/event-stream")]})  # type: ignore[operator]
        while True:
            await send({"type": "http.response.body", "body": b":\n\n", "more_body": True})  # type: ignore[operator]
            left = asyncio.ensure_future(receive())  # type: ignore[operator]
            done, _ = await asyncio.wait([left], timeout=0.01)
            if done and left.result()["type"] == "http.disconnect":
                return
            left.cancel()

    house.door._app = app  # type: ignore[assignment]
    sent: list[dict[str, object]] = []

    async def never() -> dict[str, object]:
        await asyncio.Event().wait()
        return {}

    async def send(message: dict[str, object]) -> None:
        sent.append(message)

    headers = [(b"host", b"127.0.0.1"), (b"authorization", f"Bearer {mia.token}".encode())]
    scope = {
        "type": "http",
        "method": "GET",
        "path": "/x",
        "headers": headers,
        "query_string": b"",
        "client": None,
    }
    stream = asyncio.ensure_future(house.door(scope, never, send))  # type: ignore[arg-type]
    await asyncio.sleep(0.1)
    assert not stream.done()
    owner, _ = await house.owner()
    await house.services.people.remove_user(owner, "mia")
    await asyncio.wait_for(stream, 5)
    assert sent[-1] == {"type": "http.response.body", "body": b""}


# --------------------------------------------------------------------------- what others have written


@pytest.mark.parametrize(
    ("written", "shown"),
    [
        ("plain ä 漢", "plain ä 漢"),
        ("\x1b[31mred\x1b[0m", "\x1b[31mred\x1b[0m"),
        ("\x1b]0;title\x07x", "]0;titlex"),
        ("\x1b]8;;http://evil\x1b\\link", "]8;;http://evil\\link"),
        ("\x1b[2J\x1b[Hcleared", "[2J[Hcleared"),
        ("fake\r\nline", "fake\nline"),
        ("a\x9b31mb", "a31mb"),
        ("abc\u202ecba", "abccba"),
        ("a\u2066b\u2069", "ab"),
        ("bell\x07 back\x08", "bell back"),
    ],
)
def test_a_terminal_is_not_driven_by_what_a_job_wrote(written: str, shown: str) -> None:
    assert visible(written) == shown


async def test_an_open_socket_ends_when_its_holder_may_not_any_more(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(door_module, "_RECHECK_S", 0.0)
    mia = await house.tenant("mia", "ours")
    heard: list[str] = []
    first = asyncio.Event()

    async def app(scope: dict[str, object], receive: object, send: object) -> None:
        """Takes what comes, as a shell in a task does."""
        scope["app"] = house.app
        await send({"type": "websocket.accept"})  # type: ignore[operator]
        while (message := await receive())["type"] != "websocket.disconnect":  # type: ignore[operator]
            heard.append(message["text"])
            first.set()
        heard.append("ended")

    house.door._app = app  # type: ignore[assignment]
    said: asyncio.Queue[dict[str, object]] = asyncio.Queue()
    sent: list[dict[str, object]] = []

    async def send(message: dict[str, object]) -> None:
        sent.append(message)

    headers = [(b"host", b"127.0.0.1"), (b"authorization", f"Bearer {mia.token}".encode())]
    scope = {"type": "websocket", "path": "/x", "headers": headers, "query_string": b"", "client": None}
    call = asyncio.ensure_future(house.door(scope, said.get, send))  # type: ignore[arg-type]
    await said.put({"type": "websocket.receive", "text": "ls"})
    await asyncio.wait_for(first.wait(), 5)
    owner, _ = await house.owner()
    await house.services.people.set_role(owner, "mia", None)  # of another project: nothing changes
    await house.services.people.remove_user(owner, "mia")
    await said.put({"type": "websocket.receive", "text": "rm -rf /"})
    await asyncio.wait_for(call, 5)
    assert heard == ["ls", "ended"]
    assert sent[-1] == {"type": "websocket.close", "code": 1008}
