"""What the gateway does when a replica's connection fails: again elsewhere, only where that is safe."""

from __future__ import annotations

import asyncio

import pytest

from tests.deploy.wires import Backend, Message, backends, busy_with, client, echo, gateway, routes, until

pytestmark = pytest.mark.anyio


async def dies(_: Message, writer: asyncio.StreamWriter) -> None:
    """Takes the request, and ends without a byte of an answer."""
    writer.transport.abort()


async def dies_half_way(_: Message, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")
    await writer.drain()
    writer.close()


async def test_a_replica_that_does_not_listen_is_passed_over():
    closed = await Backend().start()
    await closed.stop()
    async with backends(echo) as [one]:
        async with gateway(closed.replica("dead"), one.replica("a")) as door, client(door) as me:
            for _ in range(10):
                me.ask()
                assert (await me.answer()).headers["x-nexus-replica"] == "a"
            assert door.counted("lab", "digits") == (10, 0)
            assert 1 <= door.meters["lab", "digits"].retries <= 5  # it is spared after the first refusal


async def test_no_replica_listens():
    closed = await Backend().start()
    await closed.stop()
    async with gateway(closed.replica("dead")) as door, client(door) as me:
        me.ask()
        answer = await me.answer()
        assert (answer.status, answer.headers["retry-after"]) == (503, "1")
        closed.handler = echo
        await closed.start()
        me.ask()
        assert (await me.answer()).status == 200  # spared, but the only one
        await closed.stop()


async def test_a_connection_that_went_stale_is_not_the_clients_trouble():
    async def dies_on_two(request: Message, writer: asyncio.StreamWriter) -> None:
        if request.body == b"2" and len(one.requests) == 2:
            writer.transport.abort()
        else:
            await echo(request, writer)

    async with backends(dies_on_two) as [one], gateway(one.replica("a")) as door, client(door) as me:
        me.ask(body=b"1")
        await me.answer()
        me.ask(body=b"2")
        assert (await me.answer()).body == b"2"
        assert (one.connections, len(one.requests)) == (2, 3)


async def busy_or_done(backend: Backend, requests: int) -> None:
    await until(lambda: len(backend.requests) >= requests)


@pytest.mark.parametrize(("pure", "method", "status"), [(True, "POST", 200), (False, "POST", 502), (False, "PUT", 200)])
async def test_a_replica_that_dies_with_the_request(pure: bool, method: str, status: int):
    """What it may have acted on goes elsewhere only where that does no harm."""
    async with backends(dies, echo) as [bad, good]:
        async with gateway(bad.replica("bad"), pure=pure) as door, client(door) as me:
            me.ask(method=method, path="/e/digits/x")
            await busy_or_done(bad, 1)
            door.follow(both(bad, good, pure=pure))
            answer = await me.answer()
            if status == 200 and answer.status == 503:  # it was the only one when it died: nothing else to go to
                me.ask(method=method, path="/e/digits/x")
                answer = await me.answer()
            assert answer.status == status
            assert len(good.requests) == (1 if status == 200 else 0)


def both(bad: Backend, good: Backend, *, pure: bool):

    return routes(bad.replica("bad"), good.replica("good"), version=2, pure=pure)


async def test_half_an_answer_is_never_made_whole_by_another():
    async with backends(dies_half_way, echo) as [bad, good]:
        async with gateway(bad.replica("bad")) as door, client(door) as me:
            me.ask()
            head = await me.answer(body=False)
            assert head.headers["content-length"] == "100"
            assert await cut(me.reader) == b"half"
            assert not good.requests
            assert door.meters["lab", "digits"].statuses == {502: 1}


async def cut(reader: asyncio.StreamReader) -> bytes:
    """What came before the connection was cut."""
    found = b""
    try:
        while part := await reader.read(100):
            found += part
    except ConnectionError:
        pass
    return found


async def test_an_answer_that_cannot_be_read_is_502():
    async def smuggles(_: Message, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n")

    async def babbles(_: Message, writer: asyncio.StreamWriter) -> None:
        writer.write(b"hello\r\n\r\n")

    async with backends(smuggles, babbles) as found:
        for backend in found:
            async with gateway(backend.replica("a")) as door, client(door) as me:
                me.ask()
                assert (await me.answer()).status == 502


async def test_bytes_that_nobody_asked_for_poison_no_answer():
    async def twice(_: Message, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\na")
        await writer.drain()
        await asyncio.sleep(0.05)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil")

    async with backends(twice) as [one], gateway(one.replica("a")) as door, client(door) as me:
        for _ in range(3):
            me.ask()
            assert (await me.answer()).body == b"a"
            await asyncio.sleep(0.1)
        assert one.connections == 3


async def test_a_stream_that_began_to_be_sent_is_not_sent_again():
    async with backends(dies, echo) as [bad, good], gateway(bad.replica("bad")) as door, client(door) as me:
        head = b"POST /e/digits/ HTTP/1.1\r\nHost: x\r\nX-Api-Key: the-key\r\nContent-Length: 2000000\r\n\r\n"
        me.send(head + b"x" * 1_000_000)
        await busy_with(door, "bad")
        me.send(b"x" * 1_000_000)
        assert (await me.answer()).status == 502
        assert not good.requests


async def test_load_goes_where_the_least_is_outstanding():
    go = asyncio.Event()

    async def wait(request: Message, writer: asyncio.StreamWriter) -> None:
        await go.wait()
        await echo(request, writer)

    async with backends(wait, echo) as [slow, quick]:
        async with gateway(slow.replica("slow"), quick.replica("quick")) as door:
            async with client(door) as stuck, client(door) as me:
                while not door.outstanding("slow"):
                    stuck.ask()
                    await asyncio.sleep(0.02)
                    if not door.outstanding("slow"):
                        await stuck.answer()
                for _ in range(10):
                    me.ask()
                    assert (await me.answer()).headers["x-nexus-replica"] == "quick"
                go.set()
                assert (await stuck.answer()).status == 200
                assert door.load == {}
