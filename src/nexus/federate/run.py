"""One task of a federated run: `python -m nexus.federate.run --role server|client app.py`.

Reads what every task finds in its environment (NEXUS_PEERS, NEXUS_INDEX, ...); `nexus launch` starts it with that.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from secrets import token_bytes

from nexus.kernel.errors import MissingError, NexusError, UnavailableError, UsageError

try:
    import torch
    import uvicorn
    import xxhash  # noqa: F401 (with torch comes what else a task needs; what is missing is said here)
except ModuleNotFoundError as error:
    if __name__ != "__main__":
        raise
    sys.stderr.write(f"error: a federated task needs {error.name}, which this Python has not\n")
    sys.stderr.write("  → Install nexus[torch] where the agent runs, or let the job's `setup:` install it.\n")
    sys.exit(MissingError.exit_code)

from nexus.federate.adapters.coordinator import Coordinator
from nexus.federate.adapters.host import PATIENCE_S, HostProcess
from nexus.federate.adapters.http_client import Line
from nexus.federate.adapters.http_server import application, listen, web_server
from nexus.federate.adapters.journal import Journal
from nexus.federate.adapters.loader import load_task
from nexus.federate.adapters.passport import Passport, passport
from nexus.federate.adapters.reach import Reach, ways
from nexus.federate.adapters.record import log_round, save_result
from nexus.federate.adapters.report import Reporter
from nexus.federate.adapters.travel import Travel, restore
from nexus.federate.adapters.vouching import Vouching
from nexus.federate.core.identity import CLIENT, SERVER, Holder, Roll
from nexus.federate.core.settings import check, on_nodes, override
from nexus.federate.core.task import Task
from nexus.federate.core.worker import Worker
from nexus.federate.model import Round, Settings
from nexus.infra.clock import SystemClock


@dataclass(frozen=True)
class Place:
    """Where this task stands in its run, from its environment."""

    me: Holder
    index: int  # among the client tasks
    roll: Roll  # who else may take part
    server: tuple[str, int]
    folder: Path  # kept between attempts
    outputs: Path

    @classmethod
    def read(cls, role: str, roll: Roll, env: dict[str, str]) -> Place:
        """Raises UsageError when something is missing, DeniedError when this task is none of the run's."""
        if not env.get("NEXUS_TOKEN", ""):
            raise UsageError(
                "NEXUS_TOKEN is not set", hint="Start this with nexus launch, which gives every task of the run one."
            )
        me = Holder(role, int(env.get("NEXUS_INDEX", "0")))
        if role == SERVER:
            index = 0
        else:
            hosts = roll.hosts or int(env.get("NEXUS_NUM_NODES", "1"))
            roll = replace(roll, hosts=hosts)
            index = roll.host(me)
        checkpoints = Path(env.get("NEXUS_CHECKPOINTS", "checkpoints"))
        return cls(
            me=me,
            index=index,
            roll=roll,
            server=_server(role, env),
            folder=checkpoints / ("federate" if role == SERVER else f"federate-client-{index}"),
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
    if role == SERVER and "NEXUS_PORT_FEDERATE" in env:
        return env.get("NEXUS_NODE_ADDRS", "127.0.0.1").split(",")[0], int(env["NEXUS_PORT_FEDERATE"])
    raise UsageError("nobody said where the federated server is", hint="Set NEXUS_SERVER_ADDR=host:port.")


def serve(task: Task, settings: Settings, place: Place) -> None:
    """Be the server until every round is done. Raises JobError, ConflictError, UnavailableError."""
    clock = SystemClock()
    check(on_nodes(settings), task.clients)
    worker = Worker(task, settings, clock, token_bytes)
    reporter = Reporter.from_environment(dict(os.environ))

    def each(record: Round) -> None:
        log_round(record)
        travel.keep()
        reporter.post(coordinator.rounds)
        metrics = " ".join(f"{name}={value:.4f}" for name, value in record.metrics.items())
        took = f"{len(record.accepted)}/{len(record.cohort)} updates, {record.seconds:.2f} s"
        sys.stdout.write(f"round {record.number}/{settings.rounds} {metrics} ({took})\n")
        sys.stdout.flush()

    own = _passport(place)
    restore(place.folder, os.environ)
    journal, travel = Journal(place.folder, settings), Travel(place.folder, clock)
    coordinator = Coordinator(worker, settings, journal, clock, each, place.roll.speaks_for)
    if coordinator.rounds:  # a restart: what was committed last may not have been told
        each(coordinator.rounds[-1])
    with listen(*place.server) as socket:
        server = web_server(application(coordinator, place.roll.host), own.context(server=True))
        asyncio.run(_serve(coordinator, server, socket))
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
    clients = place.roll.speaks_for(place.index) or ()
    own, found = _passport(place), ways(place.server, os.environ)
    tls, vouching = own.context(server=False), Vouching(own, place.roll)
    process = HostProcess(task, settings, clients, place.folder, clock, vouching)
    process.run(lambda patience_s: Line(Reach(found, tls), patience_s=patience_s, clock=clock))


def _passport(place: Place) -> Passport:
    """Who this task is, as the control plane says; waits for that as a host waits for its server. Raises NexusError."""
    clock = SystemClock()
    end = clock.monotonic() + PATIENCE_S

    def patience(error: NexusError) -> None:
        if clock.monotonic() > end:
            raise error
        time.sleep(1.0)

    return passport(os.environ, place.me, patience=patience)


def main(arguments: list[str] | None = None) -> int:
    """The exit code."""
    parser = argparse.ArgumentParser(prog="python -m nexus.federate.run", description=__doc__)
    parser.add_argument("app", type=Path)
    parser.add_argument("--role", default=os.environ.get("NEXUS_ROLE", CLIENT), help="server, client, or a site's name")
    parser.add_argument("--hosts", type=int, default=0, help="how many client tasks there are")
    parser.add_argument("--sites", default="", help="or the names of the sites that take part, with commas")
    parser.add_argument("--set", action="append", default=[], metavar="PATH=VALUE", dest="changes")
    parser.add_argument("--threads", type=int, default=1, help="more are faster on large models, and round differently")
    given = parser.parse_args(arguments)
    torch.set_num_threads(given.threads)
    try:
        task = load_task(given.app)
        sites = tuple(filter(None, given.sites.split(",")))
        roll = Roll(clients=task.clients, hosts=given.hosts, sites=sites)
        place = Place.read(given.role, roll, dict(os.environ))
        settings = override(task.settings, dict(change.partition("=")[::2] for change in given.changes))
        (serve if given.role == SERVER else host)(task, settings, place)
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
