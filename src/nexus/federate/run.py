"""One task of a federated run: `python -m nexus.federate.run --role server|client app.py`.

Reads what every task finds in its environment (NEXUS_PEERS, NEXUS_INDEX, ...); `nexus launch` starts it with that.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from secrets import token_bytes

from nexus.kernel.errors import MissingError, NexusError, UnavailableError, UsageError

try:
    import torch
    import uvicorn
except ModuleNotFoundError as error:
    if __name__ != "__main__":
        raise
    sys.stderr.write(f"error: a federated task needs {error.name}, which this Python has not\n")
    sys.stderr.write("  → Install nexus[torch] where the agent runs, or let the job's `setup:` install it.\n")
    sys.exit(MissingError.exit_code)

from nexus.federate.adapters.coordinator import Coordinator
from nexus.federate.adapters.host import HostProcess
from nexus.federate.adapters.http_client import Line
from nexus.federate.adapters.http_server import application, listen, shared_key
from nexus.federate.adapters.journal import Journal
from nexus.federate.adapters.loader import load_task
from nexus.federate.adapters.record import log_round, save_result
from nexus.federate.adapters.report import Reporter
from nexus.federate.core.settings import check, override
from nexus.federate.core.task import Task
from nexus.federate.core.worker import Worker
from nexus.federate.model import Round, Settings
from nexus.infra.clock import SystemClock


@dataclass(frozen=True)
class Place:
    """Where this task stands in its run, from its environment."""

    index: int
    count: int  # tasks of this role
    server: tuple[str, int]
    key: str
    folder: Path  # kept between attempts
    outputs: Path

    @classmethod
    def read(cls, role: str, env: dict[str, str]) -> Place:
        """Raises UsageError when something is missing."""
        token = env.get("NEXUS_TOKEN", "")
        if not token:
            raise UsageError(
                "NEXUS_TOKEN is not set", hint="Start this with nexus launch; the tasks of a run share it."
            )
        index = int(env.get("NEXUS_INDEX", "0"))
        checkpoints = Path(env.get("NEXUS_CHECKPOINTS", "checkpoints"))
        return cls(
            index=index,
            count=int(env.get("NEXUS_NUM_NODES", "1")),
            server=_server(role, env),
            key=shared_key(token),
            folder=checkpoints / ("federate" if role == "server" else f"federate-client-{index}"),
            outputs=Path(env.get("NEXUS_OUTPUTS", "federated")),
        )


def _server(role: str, env: dict[str, str]) -> tuple[str, int]:
    """Where the server listens: NEXUS_SERVER_ADDR, or the peers that the agent told."""
    said = env.get("NEXUS_SERVER_ADDR", "")
    if said:
        host, _, port = said.rpartition(":")
        return host, int(port)
    for peer in json.loads(env.get("NEXUS_PEERS", "[]")):
        if peer["role"] == "server" and "federate" in peer["ports"]:
            return peer["address"], int(peer["ports"]["federate"])
    if role == "server" and "NEXUS_PORT_FEDERATE" in env:
        return env.get("NEXUS_NODE_ADDRS", "127.0.0.1").split(",")[0], int(env["NEXUS_PORT_FEDERATE"])
    raise UsageError("nobody said where the federated server is", hint="Set NEXUS_SERVER_ADDR=host:port.")


def serve(task: Task, settings: Settings, place: Place) -> None:
    """Be the server until every round is done. Raises JobError, ConflictError, UnavailableError."""
    clock = SystemClock()
    check(settings, task.clients)
    worker = Worker(task, settings, clock, token_bytes)
    reporter = Reporter.from_environment(dict(os.environ))

    def each(record: Round) -> None:
        log_round(record)
        reporter.post(coordinator.rounds)
        metrics = " ".join(f"{name}={value:.4f}" for name, value in record.metrics.items())
        took = f"{len(record.accepted)}/{len(record.cohort)} updates, {record.seconds:.2f} s"
        sys.stdout.write(f"round {record.number}/{settings.rounds} {metrics} ({took})\n")
        sys.stdout.flush()

    coordinator = Coordinator(worker, settings, Journal(place.folder, settings), clock, each)
    if coordinator.rounds:  # a restart: what was committed last may not have been told
        each(coordinator.rounds[-1])
    with listen(*place.server) as socket:
        config = uvicorn.Config(application(coordinator, place.key), log_level="warning", lifespan="off")
        asyncio.run(_serve(coordinator, uvicorn.Server(config), socket))
    save_result(place.outputs, settings, coordinator.rounds, worker.trainer, coordinator.state.model)
    reporter.post(coordinator.rounds)


async def _serve(coordinator: Coordinator, server: uvicorn.Server, socket: object) -> None:
    web = asyncio.create_task(server.serve(sockets=[socket]))  # type: ignore[list-item]
    rounds = asyncio.create_task(coordinator.run())
    try:
        await asyncio.wait({web, rounds}, return_when=asyncio.FIRST_COMPLETED)
        if not rounds.done():
            raise UnavailableError("the federated server was stopped", hint="Start it again: it goes on where it was.")
        await rounds
    finally:
        rounds.cancel()
        server.should_exit = True
        await web


def host(task: Task, settings: Settings, place: Place) -> None:
    """Be a host until every round is done. Raises JobError, UnavailableError."""
    clock = SystemClock()
    clients = tuple(range(place.index, task.clients, place.count))
    process = HostProcess(task, settings, place.index, clients, place.folder, clock)
    process.run(lambda patience_s: Line(*place.server, place.key, patience_s=patience_s, clock=clock))


def main(arguments: list[str] | None = None) -> int:
    """The exit code."""
    parser = argparse.ArgumentParser(prog="python -m nexus.federate.run", description=__doc__)
    parser.add_argument("app", type=Path)
    parser.add_argument("--role", choices=("server", "client"), default=os.environ.get("NEXUS_ROLE"))
    parser.add_argument("--set", action="append", default=[], metavar="PATH=VALUE", dest="changes")
    parser.add_argument("--threads", type=int, default=1, help="more are faster on large models, and round differently")
    given = parser.parse_args(arguments)
    torch.set_num_threads(given.threads)
    try:
        place = Place.read(given.role, dict(os.environ))
        task = load_task(given.app)
        settings = override(task.settings, dict(change.partition("=")[::2] for change in given.changes))
        (serve if given.role == "server" else host)(task, settings, place)
    except NexusError as error:
        sys.stderr.write(f"error: {error.message}\n" + (f"  → {error.hint}\n" if error.hint else ""))
        return error.exit_code
    except OSError as error:
        sys.stderr.write(
            f"error: {error}\n  → Look at the disk of this task; started again, it goes on where it was.\n"
        )
        return UnavailableError.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
