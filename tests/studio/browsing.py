"""A real server in a thread and a real Chromium, for what only a browser can show."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import socket
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import uvicorn

from nexus.deploy.model import Deployment, Replica, Route, Routes
from nexus.launch.model import RolePlan, RunPlan
from tests.studio.house import PROJECT, House, open_house

T = TypeVar("T")
FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"]
FLAGS += ["--disable-background-networking", "--disable-component-update", "--disable-sync"]
ROOT = Path(__file__).parents[2]


def chromium() -> str:
    """The browser that scripts/browser.sh found or installed."""
    names = [os.environ.get("NEXUS_CHROMIUM", ""), "chromium", "chromium-browser", "google-chrome"]
    found = next((path for name in names if name and (path := shutil.which(name))), None)
    assert found, "no Chromium: run scripts/browser.sh"
    return found


class Site:
    """A served house. `do` runs something in the server's own loop."""

    def __init__(self, house: House, url: str, loop: asyncio.AbstractEventLoop) -> None:
        self.house, self.url, self.loop = house, url, loop
        self.complaints: list[str] = []  # of the browser's console

    def do(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(20)


@contextmanager
def served(folder: Path) -> Iterator[Site]:
    """A house on a free port, until it is left."""
    ready, sites, stop = threading.Event(), list[Site](), asyncio.Event()

    async def main() -> None:
        async with open_house(folder) as house, listening(house.app) as (server, port):
            sites.append(Site(house, f"http://127.0.0.1:{port}", asyncio.get_running_loop()))
            ready.set()
            await stop.wait()
            server.should_exit = True

    thread = threading.Thread(target=lambda: asyncio.run(main()))
    thread.start()
    try:
        assert ready.wait(20), "the server did not start"
        yield sites[0]
    finally:
        sites[0].loop.call_soon_threadsafe(stop.set)
        thread.join(20)


class listening:  # noqa: N801 (reads as what it does)
    """An ASGI application on a free port of this machine."""

    def __init__(self, app: Any) -> None:
        self._socket = socket.socket()
        self._socket.bind(("127.0.0.1", 0))
        config = uvicorn.Config(app, log_level="warning", ws="none", lifespan="off", timeout_graceful_shutdown=1)
        self.server = uvicorn.Server(config)

    async def __aenter__(self) -> tuple[uvicorn.Server, int]:
        self._task = asyncio.create_task(self.server.serve([self._socket]))
        while not self.server.started:
            assert not self._task.done(), "the server ended"
            await asyncio.sleep(0.01)
        return self.server, self._socket.getsockname()[1]

    async def __aexit__(self, *_: object) -> None:
        self.server.should_exit = True
        await self._task


def parrot(words: list[str], gate: asyncio.Event) -> Callable[..., Awaitable[None]]:
    """An engine that speaks OpenAI's stream: the first half of the words, then, once `gate` opens, the rest."""

    async def pieces() -> AsyncIterator[bytes]:
        for number, word in enumerate(words):
            if number == len(words) // 2:
                await gate.wait()
            body = {"choices": [{"index": 0, "delta": {"content": word}}]}
            yield f"data: {json.dumps(body)}\n\n".encode()
        yield b"data: [DONE]\n\n"

    async def app(scope: Any, receive: Any, send: Any) -> None:
        assert scope["path"] == "/v1/chat/completions"
        while (await receive()).get("more_body"):
            pass
        headers = [(b"content-type", b"text/event-stream")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        async for piece in pieces():
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body", "body": b""})

    return app


async def with_chat_model(house: House, name: str, words: list[str]) -> asyncio.Event:
    """An endpoint called `name` whose one replica is a parrot; the event lets it finish its sentence."""
    gate = asyncio.Event()
    server = listening(parrot(words, gate))
    _, port = await server.__aenter__()
    house.leave.append(lambda: server.__aexit__())
    plan = RunPlan(kind="deploy", roles=(RolePlan(name="replica", argv=("serve",)),))
    await house.deploy.deploy(Deployment(name=name, plan=plan, engine="llama"), project=PROJECT, user="ada")
    replica = Replica("task_1", "127.0.0.1", port)
    route = Route(project=PROJECT, endpoint=name, replicas=(replica,), openai=True)
    house.gateway.follow(Routes(1, (route,)))
    return gate
