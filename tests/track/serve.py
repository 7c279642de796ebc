"""The real router in a real server process: `python -m tests.track.serve FOLDER PORT`. Records last as long as it."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import uvicorn
from fastapi import FastAPI

from nexus.infra.http_client import HttpClient
from nexus.infra.web.errors import answer_errors
from nexus.kernel.identity import Principal
from nexus.track.faces.api import router
from nexus.track.model import StreamOwner
from tests.ports import free_port
from tests.track.house import PEOPLE, build

ROOT = Path(__file__).parents[2]
TASKS = [f"task_{i:013d}" for i in range(20)]  # two for each of run_0, run_1 ...


async def _people(token: str) -> Principal | None:
    return PEOPLE.get(token)


def make_app(folder: Path) -> FastAPI:
    house = build(folder)
    for index, task in enumerate(TASKS):
        house.leases.known[task] = StreamOwner(
            project="red", run=f"run_{index // 2}", task=task, role="worker", index=index % 2
        )
    app = FastAPI()
    app.state.authenticate = _people
    app.state.house = house
    answer_errors(app)
    app.include_router(router(house.track, house.leases))

    @app.post("/end/{number}")
    async def end(number: int) -> None:
        house.runs.add(f"run_{number}", name=f"job{number}", ended=True)
        house.hints.hint(f"launch.run:run_{number}")

    return app


class Server:
    """A server process that can be killed and started again on the same folder and port."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._port = free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self._clients: list[HttpClient] = []
        self.url = f"http://127.0.0.1:{self._port}"

    def start(self) -> None:
        command = [sys.executable, "-m", "tests.track.serve", str(self._folder), str(self._port)]
        environment = {**os.environ, "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}"}
        self._process = subprocess.Popen(command, cwd=ROOT, env=environment)
        end = time.monotonic() + 30
        while True:
            try:
                httpx.get(self.url + "/openapi.json").raise_for_status()
            except httpx.HTTPError:
                assert time.monotonic() < end, "the server did not start"
                assert self._process.poll() is None, "the server died"
                time.sleep(0.05)
            else:
                return

    def connect(self, who: str) -> HttpClient:
        """A client that is closed with the server."""
        self._clients.append(HttpClient(self.url, who, timeout_s=20))
        return self._clients[-1]

    def close(self) -> None:
        """End everything."""
        self.kill()
        for client in self._clients:
            client.close()

    def kill(self) -> None:
        """As `kill -9` does."""
        assert self._process is not None
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()

    @property
    def cpu_s(self) -> float:
        """What the process has spent so far."""
        assert self._process is not None
        parts = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(parts[11]) + int(parts[12])) / os.sysconf("SC_CLK_TCK")


@contextmanager
def serving(folder: Path) -> Iterator[Server]:
    server = Server(folder)
    server.start()
    try:
        yield server
    finally:
        server.close()


def main() -> None:
    app = make_app(Path(sys.argv[1]))
    config = uvicorn.Config(app, host="127.0.0.1", port=int(sys.argv[2]), log_level="error", access_log=False)
    asyncio.run(uvicorn.Server(config).serve())


if __name__ == "__main__":
    main()
