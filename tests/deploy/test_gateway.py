"""The gateway over real sockets: what goes through, what is passed on, what is refused."""

from __future__ import annotations

import asyncio
import json

import pytest

from nexus.deploy.model import Limits, Routes
from tests.deploy.wires import KEY, Message, backends, busy_with, client, echo, gateway, routes

pytestmark = pytest.mark.anyio


async def test_a_request_goes_through_and_connections_are_kept():
    async with backends(echo) as [one], gateway(one.replica("a")) as door, client(door) as me:
        for number in range(20):
            me.ask(body=b"%d" % number)
            answer = await me.answer()
            assert (answer.status, answer.body) == (200, b"%d" % number)
            assert answer.headers["x-nexus-replica"] == "a"
        assert one.connections == 1
        assert one.requests[0].start == "POST /predict HTTP/1.1"
        assert door.outstanding("a") == 0
        assert door.counted("lab", "digits") == (20, 0)


async def test_keys_cookies_and_hop_by_hop_headers_stay_here():
    async def noisy(_: Message, writer: asyncio.StreamWriter) -> None:
        writer.write(
            b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nSet-Cookie: nexus_session=x\r\nConnection: x-private\r\n"
            b"X-Private: 1\r\nKeep-Alive: timeout=5\r\nX-Kept: yes\r\n\r\nok"
        )

    async with backends(noisy) as [one], gateway(one.replica("a")) as door, client(door) as me:
        me.ask(extra="Cookie: nexus_session=s\r\nConnection: X-Secret\r\nX-Secret: 1\r\nTE: gzip\r\nX-Mine: 1\r\n")
        answer = await me.answer()
        sent = one.requests[0].headers
        assert not {"authorization", "cookie", "x-secret", "te", "connection"} & set(sent)
        assert sent["x-mine"] == "1"
        assert sent["x-forwarded-for"] == "127.0.0.1"
        assert sent["x-forwarded-host"] == "x"
        assert not {"set-cookie", "x-private", "keep-alive", "connection"} & set(answer.headers)
        assert answer.headers["x-kept"] == "yes"
        assert answer.headers["x-request-id"] == sent["x-request-id"]


@pytest.mark.parametrize(
    ("raw", "status"),
    [
        (b"POST /e/digits/ HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
        (b"POST /e/digits/ HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n", 400),
        (b"POST /e/digits/ HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\n", 400),
        (b"POST /e/digits/ HTTP/1.1\r\nHost: x\r\nContent-Length: +3\r\n\r\n", 400),
        (b"POST /e/digits/ HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: xchunked\r\n\r\n", 400),
        (b"POST /e/digits/ HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", 400),
        (b"POST /e/digits/ HTTP/1.1\r\nHost: x\r\nTransfer-Encoding : chunked\r\n\r\n", 400),
        (b"POST /e/digits/ HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
        (b"GET /e/digits/ HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n", 400),
        (b"GET /e/digits/ HTTP/1.1\r\n\r\n", 400),
        (b"GET http://elsewhere/ HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        (b"GET /e/digits/ HTTP/1.1\r\nHost: x\r\nX-A: 1\nX-B: 2\r\n\r\n", 400),
        (b"GET /e/digits/ HTTP/1.1\r\nHost: x\r\nX-A: 1\r\n X-B: 2\r\n\r\n", 400),
        (b"GET /e/digits/ HTTP/1.1\r\nHost: x\r\nX-A: 1\x00\r\n\r\n", 400),
        (b"nonsense\r\n\r\n", 400),
        (b"CONNECT x:1 HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        (b"GET /e/digits/ HTTP/1.1\r\nHost: x\r\nX-Big: " + b"x" * 70_000 + b"\r\n", 431),
        (
            b"POST /e/digits/ HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: a\r\nContent-Length: 2\r\n\r\n{}",
            400,
        ),
    ],
)
async def test_what_can_be_read_in_two_ways_is_refused(raw: bytes, status: int):
    async with backends(echo) as [one], gateway(one.replica("a")) as door, client(door) as me:
        key = b"\r\nAuthorization: Bearer " + KEY.encode()
        line, _, rest = raw.partition(b"\r\n")
        me.send(line + key + b"\r\n" + rest if rest.strip() else raw)
        answer = await me.answer()
        assert (answer.status, answer.headers["connection"]) == (status, "close")
        assert json.loads(answer.body)["error"]["message"]
        assert await me.rest() == b""
        assert not one.requests


async def test_another_protocol_is_offered_in_vain():
    async with backends(echo) as [one], gateway(one.replica("a")) as door, client(door) as me:
        upgrade = (
            f"GET /e/digits/ HTTP/1.1\r\nHost: x\r\nX-Api-Key: {KEY}\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n"
        )
        me.send(upgrade.encode() * 2)
        assert [(await me.answer()).status for _ in range(2)] == [200, 200]
        assert "upgrade" not in one.requests[0].headers


async def test_pipelined_requests_are_answered_in_order():
    async def slow_first(request: Message, writer: asyncio.StreamWriter) -> None:
        if request.body == b"0":
            await asyncio.sleep(0.05)
        await echo(request, writer)

    async with backends(slow_first) as [one], gateway(one.replica("a")) as door:
        async with client(door) as me:
            for number in range(5):
                me.ask(body=b"%d" % number)
            assert [(await me.answer()).body for _ in range(5)] == [b"0", b"1", b"2", b"3", b"4"]


@pytest.mark.parametrize(
    ("key", "path", "status"),
    [
        ("", "/e/digits/", 401),
        ("wrong", "/e/digits/", 401),
        ("node", "/e/digits/", 403),
        ("other", "/e/digits/", 404),
        (KEY, "/e/nothing/", 404),
        (KEY, "/elsewhere", 404),
        (KEY, "/e/", 404),
        ("", "/healthz", 200),
        (KEY, "/v1/models", 200),
        (KEY, "/metrics", 200),
        ("", "/metrics", 401),
        ("", "/v1/models", 401),
    ],
)
async def test_who_may_reach_what(key: str, path: str, status: int):
    async with backends(echo) as [one], gateway(one.replica("a")) as door, client(door) as me:
        me.send(f"GET {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {key}\r\n\r\n".encode())
        assert (await me.answer()).status == status
        me.send(f"GET {path} HTTP/1.1\r\nHost: x\r\nX-Api-Key: {key}\r\n\r\n".encode())
        assert (await me.answer()).status == status
        assert not one.requests


async def test_chunks_stream_through_as_they_come():
    go = asyncio.Event()

    async def drip(_: Message, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n")
        await writer.drain()
        await go.wait()
        writer.write(b"6\r\nsecond\r\n0\r\nX-Trailer: 1\r\n\r\n")

    async with backends(drip) as [one], gateway(one.replica("a")) as door, client(door) as me:
        me.ask()
        await me.answer(body=False)
        assert await me.reader.readuntil(b"first\r\n") == b"5\r\nfirst\r\n"
        go.set()
        assert await me.reader.readuntil(b"0\r\n\r\n") == b"6\r\nsecond\r\n0\r\n\r\n"
        me.ask()
        assert (await me.answer()).body == b"firstsecond"
        assert one.connections == 1


async def test_an_answer_that_ends_with_its_connection():
    async def until_close(_: Message, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\n\r\nall of it")
        writer.close()

    async with backends(until_close) as [one], gateway(one.replica("a")) as door, client(door) as me:
        for _ in range(2):
            me.ask()
            answer = await me.answer()
            assert (answer.headers["transfer-encoding"], answer.body) == ("chunked", b"all of it")
        me.send(f"GET /e/digits/ HTTP/1.0\r\nX-Api-Key: {KEY}\r\n\r\n".encode())
        answer = await me.answer()
        assert ("transfer-encoding" in answer.headers, answer.body) == (False, b"all of it")


async def test_head_and_no_content_have_no_body():
    async def bare(request: Message, writer: asyncio.StreamWriter) -> None:
        if request.start.startswith("HEAD"):
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n")
        else:
            writer.write(b"HTTP/1.1 204 No Content\r\n\r\n")

    async with backends(bare) as [one], gateway(one.replica("a")) as door, client(door) as me:
        for _ in range(2):
            me.send(f"HEAD /e/digits/ HTTP/1.1\r\nHost: x\r\nX-Api-Key: {KEY}\r\n\r\n".encode())
            assert (await me.answer(body=False)).headers["content-length"] == "99"
            me.send(f"DELETE /e/digits/ HTTP/1.1\r\nHost: x\r\nX-Api-Key: {KEY}\r\n\r\n".encode())
            assert (await me.answer(body=False)).status == 204


async def test_large_bodies_stream_up_and_down():
    async with backends(echo) as [one], gateway(one.replica("a")) as door, client(door) as me:
        body = bytes(range(256)) * 20_000  # 5 MB
        me.ask(body=body)
        assert (await me.answer()).body == body
        chunks = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in [body[:300_000], body[300_000:]])
        me.send(f"POST /e/digits/ HTTP/1.1\r\nHost: x\r\nX-Api-Key: {KEY}\r\n".encode())
        me.send(b"Transfer-Encoding: chunked\r\n\r\n" + chunks + b"0\r\n\r\n")
        assert (await me.answer()).body == body


async def test_a_slow_client_holds_its_replica_back():
    sent = 0

    async def flood(request: Message, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        for _ in range(1000):
            writer.write(b"10000\r\n" + b"x" * 65536 + b"\r\n")
            await writer.drain()
            sent += 65536
        writer.write(b"0\r\n\r\n")

    async with backends(flood) as [one], gateway(one.replica("a")) as door, client(door) as me:
        me.ask()
        before = -1
        while sent != before:  # until the replica stands still
            before = sent
            await asyncio.sleep(0.2)
        assert sent < 40_000_000
        assert len((await me.answer()).body) == 65_536_000


async def test_the_limit_of_a_body_is_told_before_and_within():
    limits = Limits(body_b=10)
    async with backends(echo) as [one], gateway(one.replica("a"), limits=limits) as door:
        async with client(door) as me:
            me.send(f"POST /e/digits/ HTTP/1.1\r\nHost: x\r\nX-Api-Key: {KEY}\r\nContent-Length: 11\r\n\r\n".encode())
            assert (await me.answer()).status == 413
        async with client(door) as me:
            me.send(f"POST /e/digits/ HTTP/1.1\r\nHost: x\r\nX-Api-Key: {KEY}\r\n".encode())
            me.send(b"Transfer-Encoding: chunked\r\n\r\n8\r\n12345678\r\n8\r\n12345678\r\n")
            assert (await me.answer()).status == 413
        assert not one.requests


async def test_expect_is_answered_here():
    async with backends(echo) as [one], gateway(one.replica("a")) as door, client(door) as me:
        head = f"POST /e/digits/ HTTP/1.1\r\nHost: x\r\nX-Api-Key: {KEY}\r\n"
        me.send(head.encode() + b"Expect: 100-continue\r\nContent-Length: 2\r\n\r\n")
        assert (await me.answer(body=False)).status == 100
        me.send(b"ok")
        assert (await me.answer()).body == b"ok"
        assert "expect" not in one.requests[0].headers


async def test_more_than_the_limit_is_answered_429():
    go = asyncio.Event()

    async def wait(request: Message, writer: asyncio.StreamWriter) -> None:
        await go.wait()
        await echo(request, writer)

    async with backends(wait) as [one], gateway(one.replica("a"), limits=Limits(inflight=1)) as door:
        async with client(door) as first, client(door) as second:
            first.ask()
            await busy_with(door, "a")
            second.ask()
            answer = await second.answer()
            assert (answer.status, answer.headers["retry-after"]) == (429, "1")
            go.set()
            assert (await first.answer()).status == 200
            second.ask()
            assert (await second.answer()).status == 200


async def test_no_replica_is_503():
    async with gateway() as door, client(door) as me:
        me.ask()
        answer = await me.answer()
        assert (answer.status, answer.headers["retry-after"]) == (503, "1")


async def test_a_replica_that_does_not_answer_in_time_is_504():
    async def silent(_: Message, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(60)

    async with backends(silent) as [one], gateway(one.replica("a"), limits=Limits(timeout_s=0.2)) as door:
        async with client(door) as me:
            me.ask()
            assert (await me.answer()).status == 504
            assert door.outstanding("a") == 0


async def test_a_client_that_goes_away_frees_its_replica():
    gone = asyncio.Event()

    async def endless(_: Message, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        try:
            while True:
                writer.write(b"1\r\nx\r\n")
                await writer.drain()
                await asyncio.sleep(0.005)
        except ConnectionError:
            gone.set()
            raise

    async with backends(endless) as [one], gateway(one.replica("a")) as door:
        async with client(door) as me:
            me.ask()
            await me.answer(body=False)
        async with asyncio.timeout(5):
            await gone.wait()
        assert door.outstanding("a") == 0
        assert door.meters["lab", "digits"].statuses == {499: 1}


async def test_the_model_in_the_body_finds_its_endpoint():
    async with backends(echo) as [one], gateway(one.replica("a"), openai=True) as door, client(door) as me:
        body = b'{"messages": [], "model": "digits", "stream": true}'
        me.ask(path="/v1/chat/completions", body=body)
        assert (await me.answer()).body == body
        assert one.requests[0].start == "POST /v1/chat/completions HTTP/1.1"
        me.ask(path="/v1/chat/completions", body=b'{"model": "none"}')
        answer = await me.answer()
        assert (answer.status, json.loads(answer.body)["error"]["code"]) == (404, "model_not_found")
        me.ask(path="/v1/completions", body=b"{")
        assert (await me.answer()).status == 400
        me.ask(method="GET", path="/v1/models", body=b"")
        assert [m["id"] for m in json.loads((await me.answer()).body)["data"]] == ["digits"]


async def test_metrics_count_what_happened():
    async with backends(echo) as [one], gateway(one.replica("a")) as door, client(door) as me:
        for _ in range(3):
            me.ask()
            await me.answer()
        me.ask(method="GET", path="/metrics", body=b"")
        text = (await me.answer()).body.decode()
        assert 'nexus_requests_total{project="lab",endpoint="digits",status="200"} 3' in text
        assert 'nexus_request_seconds_count{project="lab",endpoint="digits"} 3' in text
        assert 'nexus_requests_inflight{project="lab",endpoint="digits"} 0' in text
        door.follow(Routes(99, ()))
        assert door.counted("lab", "digits") == (0, 0)  # an endpoint that is gone leaves no counters behind


async def test_closing_finishes_what_is_under_way():
    async def slow(request: Message, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(0.2)
        await echo(request, writer)

    async with backends(slow) as [one], gateway(one.replica("a")) as door:
        async with client(door) as busy, client(door) as idle:
            busy.ask(body=b"last")
            await busy_with(door, "a")
            closing = asyncio.create_task(door.close(drain_s=5))
            assert await idle.rest() == b""
            assert (await busy.answer()).body == b"last"
            assert await busy.rest() == b""
            await closing


async def test_requests_under_way_stay_where_they_are_when_routes_change():
    async def slow(request: Message, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(0.1)
        await echo(request, writer)

    async with backends(slow, echo) as [old, new], gateway(old.replica("a", 1)) as door:
        async with client(door) as first, client(door) as second:
            first.ask(body=b"one")
            await busy_with(door, "a")
            door.follow(routes(new.replica("b", 2), version=2))
            second.ask(body=b"two")
            assert (await second.answer()).headers["x-nexus-revision"] == "2"
            answer = await first.answer()
            assert (answer.headers["x-nexus-revision"], answer.body) == ("1", b"one")
            door.follow(routes(old.replica("a", 1), version=1))  # late, and so ignored
            first.ask()
            assert (await first.answer()).headers["x-nexus-revision"] == "2"
