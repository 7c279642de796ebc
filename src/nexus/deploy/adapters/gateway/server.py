"""The gateway: listens, follows routes, counts."""

from __future__ import annotations

import asyncio
import contextlib
import errno

import structlog

from nexus.deploy.adapters.gateway.front import Front
from nexus.deploy.adapters.gateway.keys import Authenticate, Keys
from nexus.deploy.adapters.gateway.upstream import Pool
from nexus.deploy.adapters.gateway.wheel import Wheel
from nexus.deploy.core.meters import Meter, exposition
from nexus.deploy.core.routing import index, spare_s
from nexus.deploy.model import Route, Routes
from nexus.kernel.errors import ConflictError, UsageError

DRAIN_S = 30.0


class Gateway:
    """One event loop's reverse proxy. Implements `deploy.ports.Traffic`."""

    def __init__(self, authenticate: Authenticate, *, most_clients: int = 10_000, request_ids: bytes = b"req") -> None:
        """`authenticate` says whose key it is; `request_ids` begins the ids of this gateway's requests."""
        self._authenticate = authenticate
        self.most_clients = most_clients
        self.table = index(Routes())
        self.load: dict[str, int] = {}  # replica -> requests under way
        self.spared: dict[str, tuple[int, float]] = {}  # replica -> (refusals in a row, until when)
        self.meters: dict[tuple[str, str], Meter] = {}
        self.fronts: set[Front] = set()
        self.draining = False
        self.turn = 0
        self.log = structlog.get_logger()
        self._request_ids = request_ids
        self._requests = 0
        self._server: asyncio.Server | None = None
        self._url = ""
        self._empty = asyncio.Event()
        self.loop: asyncio.AbstractEventLoop
        self.wheel: Wheel
        self.pool: Pool
        self.keys: Keys

    # ------------------------------------------------------------------ life

    async def start(self, host: str = "127.0.0.1", port: int = 0) -> str:
        """Listen, and say the URL. Raises ConflictError when the port is taken, UsageError for what is no address."""
        self.loop = asyncio.get_running_loop()
        self.wheel = Wheel(self.loop)
        self.pool = Pool(self.loop, self.wheel)
        self.keys = Keys(self._authenticate, self.loop)
        try:
            self._server = await self.loop.create_server(lambda: Front(self), host, port, backlog=1024)
        except (OSError, OverflowError) as problem:
            hint = "Choose another port with NEXUS_GATEWAY_PORT; 0 takes a free one."
            if getattr(problem, "errno", None) == errno.EADDRINUSE:
                raise ConflictError(f"the gateway's port {port} is taken", hint=hint) from problem
            words = getattr(problem, "strerror", None) or problem
            raise UsageError(f"the gateway cannot listen on {host}:{port}: {words}", hint=hint) from problem
        bound = self._server.sockets[0].getsockname()[1]
        shown = "127.0.0.1" if host in {"0.0.0.0", ""} else host  # noqa: S104 - compared, not bound
        self._url = f"http://[{shown}]:{bound}" if ":" in shown else f"http://{shown}:{bound}"
        return self._url

    async def close(self, drain_s: float = DRAIN_S) -> None:
        """Take no new requests, finish those under way for up to `drain_s`, then cut."""
        if self._server is None:
            return
        self.draining = True
        self._server.close()
        if not self.fronts:
            self._empty.set()
        for front in list(self.fronts):
            front.close_when_idle()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(drain_s):
                await self._empty.wait()
        for front in list(self.fronts):
            front.transport.abort()
        self.pool.close()
        self.wheel.stop()
        await self._server.wait_closed()
        self._server = None

    # ------------------------------------------------------------------ ports.Traffic

    @property
    def url(self) -> str:
        return self._url

    def follow(self, routes: Routes) -> None:
        """Swap the table. Raises nothing; an older version than the one followed is ignored."""
        if routes.version < self.table.version:
            return
        if routes.routes != tuple(self.table.by_name.values()):
            replicas = [replica for route in routes.routes for replica in route.replicas]
            ids = {replica.id for replica in replicas}
            self.spared = {name: kept for name, kept in self.spared.items() if name in ids}
            self.pool.keep_only({(replica.host, replica.port) for replica in replicas})
            names = {(route.project, route.endpoint) for route in routes.routes}
            self.meters = {name: meter for name, meter in self.meters.items() if name in names}
        self.table = index(routes)

    def outstanding(self, replica: str) -> int:
        return self.load.get(replica, 0)

    def counted(self, project: str, endpoint: str) -> tuple[int, int]:
        meter = self.meters.get((project, endpoint))
        return (meter.requests, meter.errors) if meter else (0, 0)

    # ------------------------------------------------------------------ for exchanges

    def left(self, front: Front) -> None:
        """A client's connection ended."""
        self.fronts.discard(front)
        if self.draining and not self.fronts:
            self._empty.set()

    def meter(self, route: Route) -> Meter:
        """The counters of a route's endpoint."""
        key = (route.project, route.endpoint)
        found = self.meters.get(key)
        if found is None:
            found = self.meters[key] = Meter(*key)
        return found

    def metrics(self, project: str) -> bytes:
        """The counters of one project, for Prometheus."""
        return exposition(meter for (owner, _), meter in self.meters.items() if owner == project).encode()

    def spare(self, replica: str) -> None:
        """The replica refused a connection, or died: leave it alone for a while."""
        failures = self.spared.get(replica, (0, 0.0))[0] + 1
        self.spared[replica] = (failures, self.loop.time() + spare_s(failures))

    def spared_now(self) -> set[str]:
        """The replicas to leave alone now."""
        now = self.loop.time()
        return {replica for replica, (_, until) in self.spared.items() if until > now}

    def new_request_id(self) -> bytes:
        """`req-1f`, unique in this gateway."""
        self._requests += 1
        return b"%b-%x" % (self._request_ids, self._requests)
