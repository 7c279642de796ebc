"""What the pages ask of the house. Each Protocol is the part of a slice's service that Studio calls; app wires them."""

from __future__ import annotations

import builtins
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from nexus.deploy.model import Deployment, EndpointView
from nexus.federate.model import Round
from nexus.kernel.clock import Clock
from nexus.kernel.events import Event
from nexus.kernel.identity import Principal
from nexus.launch.core.costing import By, CostReport
from nexus.launch.model import Machine, Node, Run, Task
from nexus.store.model import Launched, Preview, TemplateView


class Sessions(Protocol):
    """Access: one-time login links, passwords, browser sessions, and the projects of who is logged in."""

    async def exchange(self, code: str, address: str) -> str:
        """A session token for a one-time code, which is used up. Raises DeniedError."""
        ...

    async def log_in(self, user: str, password: str, address: str) -> str:
        """A session token for a password. Raises DeniedError."""
        ...

    async def projects(self, who: Principal) -> Sequence[tuple[str, str]]:
        """Those that one is in, and one's role there."""
        ...

    async def end(self, token: str) -> None:
        """Forget a session."""
        ...


class Launch(Protocol):
    """Runs and nodes. Everything is seen through a `Principal`; what is not its project's does not exist."""

    async def runs(
        self,
        who: Principal,
        *,
        states: Sequence[str] = (),
        kinds: Sequence[str] = (),
        text: str = "",
        limit: int = 50,
        before: str = "",
    ) -> list[Run]:
        """Newest first; `text` is looked for in names, kinds and users; `before` is the last page's last id."""
        ...

    async def run(self, who: Principal, run: str) -> Run:
        """By id or name. Raises NotFoundError."""
        ...

    async def tasks_of(self, who: Principal, runs: Sequence[str]) -> list[Task]:
        """The tasks of these runs, earlier attempts too, oldest first."""
        ...

    async def events(self, who: Principal, run: str, limit: int = 200) -> list[Event]:
        """What happened to a run, oldest first."""
        ...

    async def stop(self, who: Principal, run: str) -> Run:
        """Ask every task to end."""
        ...

    async def again(self, who: Principal, run: str) -> Run:
        """A new run of the same job."""
        ...

    async def nodes(self, who: Principal) -> list[Node]:
        """The machines that the project may use."""
        ...

    async def held(self, who: Principal) -> list[Task]:
        """The live tasks on those machines. Those of other projects say only what they hold."""
        ...

    async def coming(self, who: Principal) -> list[Machine]:
        """Machines that providers start for the project now, or end."""
        ...


@dataclass(frozen=True, slots=True)
class Series:
    """One metric of one task. `whole`: its history, down-sampled where it is long; else only what is new."""

    key: str
    line: str  # which task: worker-0
    steps: Sequence[float]
    values: Sequence[float | None]  # None where the value was not a number
    last: float | None = None
    whole: bool = False


@dataclass(frozen=True, slots=True)
class Logged:
    """A run's parameters, how many series it has, and how many of them are too many to draw."""

    params: Mapping[str, Any]
    series: int = 0
    undrawn: int = 0


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a task's log."""

    at: int  # milliseconds since 1970, UTC
    stream: str  # out | err | nexus
    text: str
    origin: str = ""  # which task: worker-0


@dataclass(frozen=True, slots=True)
class Tail:
    """A piece of a run's log. `cursor` goes back in to get what follows; `skipped` lines were left out before it."""

    lines: tuple[Line, ...] = ()
    cursor: str = ""
    skipped: int = 0


@dataclass(frozen=True, slots=True)
class Kept:
    """An artifact of a run."""

    name: str
    kind: str
    size_b: int
    digest: str
    created: float
    packed: bool = False  # a folder as a package, else one file's bytes


class Track(Protocol):
    """Metrics, logs and artifacts of runs."""

    async def series(
        self, who: Principal, run: str, cursor: str = "", *, points: int = 800
    ) -> tuple[list[Series], str]:
        """What came since `cursor`, and the next cursor; without one, every history in about `points` points.

        Of a run with very many series, the first ones by name: a page must not be drowned by its run.
        """
        ...

    async def logged(self, who: Principal, run: str) -> Logged:
        """What the run has logged, without its points."""
        ...

    async def tail(self, who: Principal, run: str, cursor: str = "", *, limit: int = 500) -> Tail:
        """The next lines after `cursor`; without one, the newest."""
        ...

    async def search(self, who: Principal, run: str, text: str, *, limit: int = 200) -> list[Line]:
        """Lines that hold `text`, oldest first."""
        ...

    def text(self, who: Principal, run: str) -> AsyncIterator[bytes]:
        """The whole log as text."""
        ...

    async def artifacts(self, who: Principal, run: str) -> list[Kept]:
        """What the run left behind."""
        ...

    async def download(self, who: Principal, run: str, name: str) -> tuple[Kept, AsyncIterator[bytes]]:
        """An artifact's bytes. Raises NotFoundError."""
        ...


@dataclass(frozen=True, slots=True)
class ModelVersion:
    """One version of a registered model."""

    name: str
    version: int
    created: float
    run: str = ""
    size_b: int = 0
    metrics: Mapping[str, float] = field(default_factory=dict)
    params: Mapping[str, Any] = field(default_factory=dict)
    aliases: tuple[str, ...] = ()
    user: str = ""
    engine: str = ""  # what serves it by itself (llama); empty: a job file of kind deploy says how


class Models(Protocol):
    """The registry."""

    async def models(self, who: Principal) -> list[ModelVersion]:
        """The newest version of each."""
        ...

    async def versions(self, who: Principal, name: str) -> list[ModelVersion]:
        """Newest first. Raises NotFoundError."""
        ...


class Federate(Protocol):
    """Rounds of federated runs."""

    async def rounds(self, caller: Principal, run: str, *, after: int = 0, limit: int = 1000) -> list[Round]:
        """Those above number `after`, in order. Raises NotFoundError."""
        ...


class Deploy(Protocol):
    """Endpoints: what `deploy.service` offers."""

    async def list(self, project: str) -> builtins.list[EndpointView]:
        """Every endpoint of a project."""
        ...

    async def show(self, project: str, name: str) -> EndpointView:
        """One endpoint. Raises NotFoundError."""
        ...

    async def deploy(self, deployment: Deployment, *, project: str, user: str) -> EndpointView:
        """A new endpoint, or a new revision of it."""
        ...

    async def rollback(self, project: str, name: str, to: int = 0, *, user: str = "nexus") -> EndpointView:
        """Serve an earlier revision again; 0: the one before."""
        ...


class Store(Protocol):
    """The Job Store: what `store.service` offers."""

    def list(self, who: Principal) -> builtins.list[TemplateView]:
        """Every template, in the order of the page."""
        ...

    def show(self, who: Principal, name: str) -> TemplateView:
        """One template. Raises NotFoundError."""
        ...

    async def preview(self, who: Principal, name: str, given: Mapping[str, str]) -> Preview:
        """What a launch would do. Raises UsageError with `fields`."""
        ...

    async def launch(self, who: Principal, name: str, given: Mapping[str, str]) -> Launched:
        """A run of it, or its endpoint. Raises UsageError with `fields`."""
        ...


class Costs(Protocol):
    """Bills: what `launch.service.costs` offers."""

    async def report(
        self, principal: Principal, by: By, *, since: float = 0.0, until: float | None = None, limit: int = 100
    ) -> CostReport:
        """The dearest lines since a moment, and the sum of the others."""
        ...


class Waker(Protocol):
    """Wake-up calls of this process; `infra.hints.Hints` implements it."""

    def listen(self, *topics: str) -> Any:
        """A future that the next hint on any of `topics` resolves."""
        ...

    async def until(self, future: Any, timeout_s: float, *topics: str) -> bool:
        """Wait for a future that `listen` gave; False after `timeout_s`."""
        ...

    def drop(self, future: Any, *topics: str) -> None:
        """Listen no more."""
        ...


@dataclass(frozen=True, kw_only=True)
class Services:
    """What `studio.router` is given. A part that is None is not wired: its page says so and how to get it."""

    clock: Clock
    hints: Waker
    sessions: Sessions
    launch: Launch
    track: Track
    models: Models
    federate: Federate | None = None
    deploy: Deploy | None = None
    store: Store | None = None
    costs: Costs | None = None
