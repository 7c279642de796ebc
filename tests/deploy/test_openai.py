"""The official openai client against the real small model, through the gateway and through the server's own origin."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import httpx
import openai
import pytest
import uvicorn
from fastapi import FastAPI
from openai.types.chat import ChatCompletionMessageParam

from nexus.deploy.adapters.gateway.server import Gateway
from nexus.deploy.adapters.models import MODELS, bundled_gguf
from nexus.deploy.faces.api import router
from nexus.deploy.faces.client import DeployClient
from nexus.deploy.faces.jobs import bundled
from nexus.deploy.model import EndpointState
from nexus.deploy.service import Deploy
from nexus.infra.clock import SystemClock, system_entropy
from nexus.infra.http_client import HttpClient
from nexus.infra.records.memory import MemoryRecords
from nexus.infra.web.errors import answer_errors
from nexus.kernel.errors import DeniedError, NotFoundError
from tests.deploy.processes import LocalJobs
from tests.deploy.wires import KEY, KEYS
from tests.ports import free_port

pytestmark = pytest.mark.anyio
pytest.importorskip("xllamacpp")


class NoRegistry:
    async def pin(self, project: str, reference: str) -> str:
        raise NotFoundError(reference)


@asynccontextmanager
async def house(tmp_path: Path):
    """Deploy, its gateway and its routes on real ports; yields the server's URL and the gateway's."""

    async def authenticate(key: str):
        return KEYS.get(key)

    gateway = Gateway(authenticate)
    await gateway.start()
    jobs = LocalJobs(tmp_path, {}, tmp_path / "replicas.log")
    deploy = Deploy(MemoryRecords(), jobs, NoRegistry(), gateway, SystemClock(), system_entropy, jobs.hints)
    app = FastAPI()
    app.state.authenticate = authenticate
    answer_errors(app)
    app.include_router(router(deploy))
    port = free_port()
    server = uvicorn.Server(uvicorn.Config(app, port=port, log_config=None, lifespan="off", ws="none"))
    server.install_signal_handlers = lambda: None  # type: ignore[attr-defined]  # pytest keeps its own

    async def agent() -> None:
        while True:
            await jobs.tick()
            await asyncio.sleep(0.05)

    loops = [asyncio.create_task(work) for work in (deploy.run_forever(), agent())]
    serving = asyncio.create_task(server.serve())
    try:
        async with asyncio.timeout(20):
            while not server.started:  # noqa: ASYNC110 - uvicorn has no event for it
                await asyncio.sleep(0.01)
        yield f"http://127.0.0.1:{port}", gateway.url
    finally:
        server.should_exit = True
        await serving
        for loop in loops:
            loop.cancel()
        await asyncio.gather(*loops, return_exceptions=True)
        jobs.kill_everything()
        await gateway.close(drain_s=1)


def deploy_and_wait(url: str) -> list[str]:
    """As `nexus chat` does; the states it went through."""
    with talk(url, KEY) as client:
        assert client.find("smollm2") is None
        client.deploy(bundled("smollm2"))
        return [str(view.state) for view in client.follow("smollm2", timeout_s=60)]


def chat(base_url: str) -> Iterator[str]:
    """One answer whole, one streamed."""
    with openai.OpenAI(base_url=base_url, api_key=KEY, max_retries=0) as client:
        ask: list[ChatCompletionMessageParam] = [{"role": "user", "content": "Write one sentence about the sea."}]
        chats = client.chat.completions
        whole = chats.create(model="smollm2", messages=ask, max_tokens=12, temperature=0)
        yield whole.choices[0].message.content or ""
        stream = chats.create(model="smollm2", messages=ask, max_tokens=12, temperature=0, stream=True)
        yield "".join(chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices)


def raw(base_url: str) -> str:
    with openai.OpenAI(base_url=base_url, api_key=KEY, max_retries=0) as client:
        told = client.completions.create(
            model="smollm2", prompt="The capital of France is", max_tokens=2, temperature=0
        )
        return told.choices[0].text


def wrong(base_url: str) -> tuple[str, str]:
    """What a wrong model and a wrong key are answered with."""
    with openai.OpenAI(base_url=base_url, api_key=KEY, max_retries=0) as client:
        with pytest.raises(openai.NotFoundError) as missing:
            client.chat.completions.create(model="gpt-9", messages=[{"role": "user", "content": "?"}])
    with openai.OpenAI(base_url=base_url, api_key="wrong", max_retries=0) as client:
        with pytest.raises(openai.AuthenticationError) as denied:
            client.chat.completions.create(model="smollm2", messages=[{"role": "user", "content": "?"}])
    return str(missing.value), str(denied.value)


def models(base_url: str) -> list[str]:
    with openai.OpenAI(base_url=base_url, api_key=KEY, max_retries=0) as client:
        return [model.id for model in client.models.list()]


async def test_chat_with_the_real_model(tmp_path: Path):
    async with house(tmp_path) as (url, gateway):
        states = await asyncio.to_thread(deploy_and_wait, url)
        assert states[-1] == EndpointState.READY
        assert await asyncio.to_thread(models, gateway + "/v1") == ["smollm2"]
        direct = await asyncio.to_thread(lambda: list(chat(gateway + "/v1")))
        passed_on = await asyncio.to_thread(lambda: list(chat(url + "/v1")))
        assert direct[0] == direct[1]
        assert passed_on[0] == passed_on[1]
        assert len(direct[0].split()) > 3
        assert "Paris" in await asyncio.to_thread(raw, gateway + "/v1")
        assert "Paris" in await asyncio.to_thread(raw, gateway + "/e/smollm2/v1")
        for base in (gateway + "/v1", url + "/v1"):
            missing, denied = await asyncio.to_thread(wrong, base)
            assert "there is no model 'gpt-9'" in missing
            assert "not known" in denied


async def test_the_routes_need_a_key_and_keep_projects_apart(tmp_path: Path):
    async with house(tmp_path) as (url, _):
        async with httpx.AsyncClient(base_url=url) as http:
            for method, path in (("GET", "/v1/endpoints"), ("POST", "/v1/endpoints"), ("POST", "/v1/chat/completions")):
                assert (await http.request(method, path)).status_code == 401
        await asyncio.to_thread(three_callers, url)


def three_callers(url: str) -> None:
    with talk(url, "node") as node, talk(url, KEY) as ada, talk(url, "other") as eve:
        with pytest.raises(DeniedError):
            node.list()
        ada.deploy(bundled("smollm2"))
        assert [view.name for view in ada.list()] == ["smollm2"]
        assert eve.list() == []
        with pytest.raises(NotFoundError):
            eve.show("smollm2")


@contextmanager
def talk(url: str, key: str) -> Iterator[DeployClient]:
    http = HttpClient(url, key)
    try:
        yield DeployClient(http)
    finally:
        http.close()


def test_the_model_that_a_package_ships(tmp_path: Path):
    found = bundled_gguf("smollm2", cache=tmp_path)
    assert found.read_bytes()[:4] == b"GGUF"
    assert found.stat().st_size > 50_000_000
    with pytest.raises(NotFoundError, match="no bundled model"):
        bundled_gguf("gpt-9")
    assert set(MODELS) == {"smollm2"}
