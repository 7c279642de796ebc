"""The composition root: the one file that knows concrete classes."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import structlog

from nexus.access.adapters.vault import KeyVault
from nexus.access.service import Access, Audit, People, Secrets, Sweep
from nexus.app.bridges import (
    JobsByLaunch,
    JoinTokensByAccess,
    LeasesByLaunch,
    ModelsByTrack,
    RunsByRecords,
    TokensByAccess,
    UseByRecords,
    VouchByLaunch,
)
from nexus.app.database import open_metrics, open_records
from nexus.app.home import Home
from nexus.app.kinds import KINDS
from nexus.app.settings import Settings
from nexus.deploy.adapters.gateway.server import Gateway
from nexus.deploy.service import Deploy
from nexus.federate.service import FederateService
from nexus.infra.blobs import open_blobs
from nexus.infra.clock import SystemClock, system_entropy
from nexus.infra.hints import Hints
from nexus.infra.records.cached import CachedRecords
from nexus.kernel.blobs import Blobs
from nexus.kernel.clock import Clock
from nexus.kernel.records import Records
from nexus.launch.adapters.catalog.prices import PriceList
from nexus.launch.adapters.ledger import SqlLedger
from nexus.launch.adapters.providers import OpenProviders
from nexus.launch.core.policy import Policy
from nexus.launch.ports import Machinery, Surroundings
from nexus.launch.service import Launch
from nexus.launch.service.costs import Costs
from nexus.launch.service.offers import Offers
from nexus.track.adapters.log_files import LogFiles
from nexus.track.ports import Leases
from nexus.track.service import Track

log = structlog.get_logger()


@dataclass(kw_only=True)
class Services:
    """Everything a server is made of."""

    settings: Settings
    clock: Clock
    hints: Hints
    records: Records
    blobs: Blobs
    access: Access
    people: People
    secrets: Secrets
    audit: Audit
    track: Track
    launch: Launch
    costs: Costs
    offers: Offers
    providers: OpenProviders
    leases: Leases
    gateway: Gateway
    deploy: Deploy
    federate: FederateService
    check: Callable[[], Awaitable[None]]  # raises when the database is not this server's any more
    closing: list[Callable[[], None]] = field(default_factory=list)
    loops: list[asyncio.Task[None]] = field(default_factory=list)

    async def start(self) -> None:
        """Open the gateway's port and start the control loops. Raises ConflictError when the port is taken."""
        await self.gateway.start(self.settings.host, self.settings.gateway_port)
        self.keep(self.launch.run_forever(), "launch")
        self.keep(self.launch.provision_forever(), "machines")
        self.keep(self.deploy.run_forever(), "deploy")
        sweep = Sweep(self.records, self.clock, keep_events_s=self.settings.keep_events)
        self.keep(sweep.run_forever(), "sweep")

    def keep(self, loop: Coroutine[Any, Any, None], name: str) -> None:
        """Run `loop` until `close`. That one ends before is a bug, and the log says so when it happens."""
        task = asyncio.create_task(loop, name=name)
        task.add_done_callback(_mourn)
        self.loops.append(task)

    async def close(self) -> None:
        """Stop the loops, drain the gateway, close what was opened."""
        for loop in self.loops:
            loop.cancel()
        await asyncio.gather(*self.loops, return_exceptions=True)
        await self.providers.close()
        await self.gateway.close()
        for close in reversed(self.closing):
            close()


def _mourn(loop: asyncio.Task[None]) -> None:
    if not loop.cancelled() and loop.exception() is not None:
        log.error("server.loop_died", loop=loop.get_name(), exc_info=loop.exception())


async def open_services(settings: Settings) -> Services:
    """Everything, wired. Raises UnavailableError when the database cannot be opened."""
    clock, hints = SystemClock(), Hints()
    store = open_records(settings.database_url)
    records = CachedRecords(store, KINDS)
    await records.load()
    metrics = open_metrics(settings)
    blobs = open_blobs(settings.blobs_url)
    runs = RunsByRecords(records)
    access = Access(records, clock, system_entropy, Home(settings.home).key(), is_live=runs.is_live)
    people = People(records, clock, system_entropy, access, UseByRecords(records))
    secrets = Secrets(records, clock, KeyVault(settings.home / "secrets.key"))
    logs = LogFiles(settings.home / "logs")
    track = Track(records, blobs, metrics, logs, clock, system_entropy, hints, runs)
    providers = OpenProviders(Surroundings(folder=str(settings.home / "providers"), url=settings.url))
    launch = Launch(
        records,
        clock,
        system_entropy,
        hints=hints,
        tracker=track,
        mint=TokensByAccess(access),
        secrets=secrets,
        machinery=Machinery(providers=providers, tokens=JoinTokensByAccess(access), url=settings.reached_at),
        policy=Policy(heartbeat_s=settings.heartbeat, lease_s=settings.lease),
    )
    gateway = Gateway(access.authenticate)
    deploy = Deploy(records, JobsByLaunch(launch, records), ModelsByTrack(track), gateway, clock, system_entropy, hints)
    return Services(
        settings=settings,
        clock=clock,
        hints=hints,
        records=records,
        blobs=blobs,
        access=access,
        people=people,
        secrets=secrets,
        audit=Audit(records, clock),
        track=track,
        launch=launch,
        offers=Offers(launch, PriceList(settings.home / "prices.csv.gz", today=lambda: _day(clock)), clock),
        costs=Costs(records, clock, SqlLedger(store)),
        providers=providers,
        leases=LeasesByLaunch(launch),
        gateway=gateway,
        deploy=deploy,
        federate=FederateService(records, runs, clock, VouchByLaunch(records, access)),
        check=store.check,
        closing=[store.close, metrics.close],
    )


def _day(clock: Clock) -> str:
    """Today, in UTC."""
    return datetime.fromtimestamp(clock.now(), UTC).date().isoformat()
