"""What Deploy talks about: endpoints, their revisions, and the routes that the gateway follows."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum

from nexus.kernel.errors import NotFoundError
from nexus.kernel.lifecycle import Lifecycle
from nexus.kernel.records import Kind, Record
from nexus.launch.model import RunPlan

REPLICA = "replica"  # the role of every serving task
PORT = "http"  # the name of the port that a replica listens on
MODEL_INPUT = "model"  # the name of the run's input that holds the model


# --------------------------------------------------------------------------- what is wanted


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one endpoint lets in. Sizes in bytes, times in seconds."""

    inflight: int = 64  # requests at once, per ready replica; more are answered 429
    timeout_s: float = 300.0  # from a request's first byte to its answer's last
    body_b: int = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployment:
    """What a caller hands in. `plan` None: the plan that serves now, with another `model`."""

    name: str
    plan: RunPlan | None = None
    model: str = ""  # model://digits@2, model://digits@latest; empty: the plan brings its own
    engine: str = "predictor"
    replicas: int | None = None  # None: as many as now, or 1
    pure: bool = True  # answering a request twice does no harm: a replica that dies unanswered is replaced in silence
    limits: Limits = Limits()
    example: str = ""  # inputs to try, as JSON
    job: str = ""  # the job file as the user wrote it


class RevisionState(StrEnum):
    """Where a revision stands."""

    ROLLING = "rolling"  # on its way up: it takes traffic as its replicas become ready
    ACTIVE = "active"  # all wanted replicas were ready at once
    DRAINING = "draining"  # another revision takes over
    RETIRED = "retired"
    BAD = "bad"  # never became ready, or crashed on the way up


REVISION_LIFE = Lifecycle(
    "revision",
    RevisionState.ROLLING,
    {
        RevisionState.ROLLING: (RevisionState.ACTIVE, RevisionState.DRAINING, RevisionState.BAD),
        RevisionState.ACTIVE: (RevisionState.DRAINING, RevisionState.BAD),
        RevisionState.DRAINING: (RevisionState.ROLLING, RevisionState.RETIRED),
        RevisionState.RETIRED: (),
        RevisionState.BAD: (),
    },
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Revision:
    """One immutable way of serving, as a run of role `replica`.

    Replicas are numbered from 0; those below `open` take traffic, those from `open` to `count` drain.
    """

    number: int
    plan: RunPlan
    model: str
    engine: str
    began: float
    moved: float  # when the rollout last came forward; what the ready timeout counts from
    pure: bool = True
    limits: Limits = Limits()
    example: str = ""
    job: str = ""
    state: RevisionState = RevisionState.ROLLING
    reason: str = ""
    run: str = ""  # the run's id, once submitted
    count: int = 0  # replicas that the run is scaled to
    open: int = 0
    ready: int = 0  # the most that were ready at once while rolling
    closed_at: float = 0.0  # when `open` last went down


class EndpointState(StrEnum):
    """Where an endpoint stands."""

    CREATING = "creating"  # its first revision is not ready yet
    READY = "ready"
    UPDATING = "updating"  # a rollout is under way
    DEGRADED = "degraded"  # fewer replicas are ready than wanted
    FAILED = "failed"  # its only revision is bad: nothing serves
    DELETING = "deleting"


_ALIVE = (
    EndpointState.READY,
    EndpointState.UPDATING,
    EndpointState.DEGRADED,
    EndpointState.FAILED,
    EndpointState.DELETING,
)
ENDPOINT_LIFE = Lifecycle(
    "endpoint",
    EndpointState.CREATING,
    {
        EndpointState.CREATING: _ALIVE,
        EndpointState.READY: _ALIVE,
        EndpointState.UPDATING: _ALIVE,
        EndpointState.DEGRADED: _ALIVE,
        EndpointState.FAILED: (EndpointState.CREATING, EndpointState.UPDATING, EndpointState.DELETING),
        EndpointState.DELETING: (),
    },
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint(Record):
    """A stable URL over revisions that come and go."""

    name: str
    user: str
    replicas: int  # wanted
    target: int  # the number of the revision that should serve
    stable: int = 0  # the last one that served in full; 0: none yet
    revisions: tuple[Revision, ...] = ()
    state: EndpointState = EndpointState.CREATING
    reason: str = ""
    fault: str = ""  # what went wrong with the newest revision, until there is a newer one
    updated: float = 0.0

    def revision(self, number: int) -> Revision:
        """The revision with that number. Raises NotFoundError."""
        for revision in self.revisions:
            if revision.number == number:
                return revision
        raise NotFoundError(
            f"endpoint {self.name} has no revision {number}",
            hint=f"It remembers {', '.join(str(r.number) for r in self.revisions) or 'none'}.",
        )

    def with_revision(self, changed: Revision) -> Endpoint:
        """This endpoint with one revision put in place of the one with its number."""
        kept = tuple(changed if old.number == changed.number else old for old in self.revisions)
        return replace(self, revisions=kept)


ENDPOINTS = Kind("endpoint", Endpoint, index=("name", "state"), unique=("project", "name"), hot={})


# --------------------------------------------------------------------------- what the gateway follows


@dataclass(frozen=True, slots=True)
class Replica:
    """One ready task that serves."""

    id: str  # the task's id
    host: str
    port: int
    revision: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """Where an endpoint's requests go now."""

    project: str
    endpoint: str
    replicas: tuple[Replica, ...] = ()
    openai: bool = False  # it speaks OpenAI's API: listed under /v1/models, and found by a body's `model`
    pure: bool = True
    limits: Limits = Limits()
    created: float = 0.0


@dataclass(frozen=True, slots=True)
class Routes:
    """All routes at one moment: the gateway swaps whole snapshots, so a rollout's step is seen whole or not at all."""

    version: int = 0
    routes: tuple[Route, ...] = ()


# --------------------------------------------------------------------------- what people see


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplicaView:
    """One replica as people see it."""

    task: str
    node: str
    index: int
    revision: int
    state: str
    ready: bool
    detail: str = ""
    address: str = ""
    inflight: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointView:
    """An endpoint as people see it. `url` is the gateway's; paths after it reach the replicas."""

    name: str
    project: str
    user: str
    state: EndpointState
    reason: str
    fault: str
    url: str
    engine: str
    model: str
    replicas: int  # wanted
    ready: int
    revision: int  # the target's number
    created: float
    updated: float
    openai: bool
    running: tuple[ReplicaView, ...] = ()
    revisions: tuple[Revision, ...] = ()
    requests: int = 0
    errors: int = 0
    example: str = ""  # inputs to try, as JSON
