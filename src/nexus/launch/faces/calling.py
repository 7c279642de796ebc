"""The caller's side of a call: what the command line does with the two ends that it has."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from nexus.infra.http_client import HttpClient
from nexus.infra.websocket import WebSocket, open_websocket
from nexus.kernel.errors import UnavailableError, UsageError
from nexus.launch.calls import BEAT_S, CHUNK_B, MESSAGE_B, SILENCE_S, Call, Part, message, opened, read_failure


def read_target(text: str) -> tuple[str, str, int | None]:
    """`RUN`, `RUN/role`, `RUN/role.2` or `RUN/2`: the run, the role and the index. Raises UsageError."""
    run, slash, place = text.partition("/")
    role, _, index = place.rpartition(".") if "." in place else ("", "", place) if place.isdigit() else (place, "", "")
    if not run or (slash and not place) or (index and not index.isdigit()):
        raise UsageError(
            f"{text!r} names no task", hint="Write RUN, RUN/ROLE or RUN/ROLE.INDEX, such as digits/worker.1"
        )
    return run, role, int(index) if index else None


async def attach(http: HttpClient, call: Call) -> WebSocket:
    """The server's end of a call. Raises NexusError."""
    headers = {"authorization": f"Bearer {http.token}"}
    return await open_websocket(f"{http.url}/v1/calls/{call.id}", headers, message_b=MESSAGE_B)


async def heard(socket: WebSocket) -> tuple[Part, bytes]:
    """What comes next that is no beat. Raises the call's own error, or UnavailableError when it broke off."""
    while True:
        try:
            async with asyncio.timeout(SILENCE_S):
                said = await socket.receive()
        except TimeoutError as error:
            raise UnavailableError(f"nothing was heard of the server for {SILENCE_S:g} s") from error
        if said is None:
            raise UnavailableError(f"the call broke off: {socket.why}", hint="Is the server up? nexus runs")
        part, data = opened(said)
        if part is Part.FAILED:
            raise read_failure(data)
        if part is not Part.BEAT:
            return part, data


async def beat(socket: WebSocket) -> None:
    """A sign of life now and then, until nobody takes it."""
    try:
        while True:
            await asyncio.sleep(BEAT_S)
            await socket.send(message(Part.BEAT))
    except UnavailableError:
        return


async def carry(socket: WebSocket, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Join a TCP connection with a port's call, until both directions have ended.

    Raises NexusError when the call fails, OSError when the connection does.
    """

    async def up() -> None:
        while data := await reader.read(CHUNK_B):
            await socket.send(message(Part.IN, data))
        await socket.send(message(Part.IN_END))

    async def down() -> None:
        while True:
            part, data = await heard(socket)
            if part is Part.OUT_END:
                writer.write_eof()
                return
            writer.write(data)
            await writer.drain()

    beating = asyncio.ensure_future(beat(socket))
    try:
        await both(up, down)
    finally:
        beating.cancel()


async def both(*directions: Callable[[], Awaitable[None]]) -> None:
    """Until each has ended, or one has failed."""
    running = [asyncio.ensure_future(direction()) for direction in directions]
    try:
        await asyncio.gather(*running)
    finally:
        for one in running:
            one.cancel()
        await asyncio.gather(*running, return_exceptions=True)
