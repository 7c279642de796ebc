"""Decide the next step of an endpoint: a rolling update that never serves with less than it may, or the way back.

Replicas of the target revision come up one at a time (`SURGE`); traffic moves to those that are ready; an old replica
is closed to new requests only while enough others are ready, drains, and is then scaled away. Launch scales the
highest indices away first, so what is open is always a prefix of a run's replicas. A target that crashes again and
again, ends, or does not come forward in time is bad: the last stable revision takes over again.

Invariants, tested as properties: ready and open replicas never fall below the wanted number by a decision; no more
than wanted + SURGE live replicas exist (an old replica that is down does not count: it may be broken for good).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from nexus.deploy.model import ENDPOINT_LIFE, REVISION_LIFE, Endpoint, EndpointState, Revision, RevisionState
from nexus.kernel.errors import ConflictError

SURGE = 1
CRASHES = 3  # ends of replicas on the way up, after which a revision is bad
READY_S = 300.0  # without any step forward, after which a revision is bad
DRAIN_S = 60.0  # how long a closed replica may take for the requests it still answers
REMEMBERED = 10  # revisions kept, with those that run


@dataclass(frozen=True, slots=True)
class ReplicaSeen:
    """What is known of one live replica."""

    index: int
    ready: bool
    outstanding: int = 0


@dataclass(frozen=True, slots=True)
class RunSeen:
    """What is known of one revision's run."""

    replicas: tuple[ReplicaSeen, ...] = ()
    crashes: int = 0  # tasks that ended by themselves
    ended: bool = False
    reason: str = ""  # why it waits, or why the last replica ended


@dataclass(frozen=True, slots=True)
class Submit:
    """Start the revision's run with `count` replicas."""

    revision: int
    count: int


@dataclass(frozen=True, slots=True)
class Scale:
    """Give the revision's run `count` replicas."""

    revision: int
    count: int


@dataclass(frozen=True, slots=True)
class Stop:
    """End the revision's run."""

    revision: int


Action = Submit | Scale | Stop


@dataclass(frozen=True, slots=True)
class Decision:
    """The endpoint as it should be remembered, what to do first, and what happened, in words."""

    endpoint: Endpoint
    actions: tuple[Action, ...] = ()
    said: tuple[str, ...] = ()


def decide(endpoint: Endpoint, seen: Mapping[int, RunSeen], now: float) -> Decision:
    """One step. Actions are idempotent: done before the endpoint is stored, and again after a crash in between."""
    if endpoint.state is EndpointState.DELETING:
        return _stop_all(endpoint, seen)
    target = endpoint.revision(endpoint.target)
    if target.state is RevisionState.BAD:
        return Decision(endpoint)  # nothing to go back to: waits for a new revision
    fault = _fault(endpoint, target, seen.get(target.number, RunSeen()), now)
    if fault:
        return _give_up(endpoint, target, fault, now)
    step = _Step(endpoint, seen, now)
    step.raise_target()
    step.close_surplus()
    step.reap()
    step.settle()
    return step.decision()


def _fault(endpoint: Endpoint, target: Revision, run: RunSeen, now: float) -> str:
    """Why the target is bad, or nothing. A revision that was once active is not judged: launch restarts it."""
    if target.run and run.ended:
        return run.reason or "its run ended"
    if target.state is not RevisionState.ROLLING or not target.run:
        return ""
    if run.crashes >= CRASHES and _ready(target, run) < target.count:
        return f"its replicas ended {run.crashes} times: {run.reason or 'no reason given'}"
    waited = now - target.moved
    placed = bool(run.replicas) or run.crashes > 0
    if _ready(target, run) < target.count and waited > READY_S and (placed or endpoint.stable):
        return f"not ready after {waited:.0f} s: {run.reason or 'its health check does not answer'}"
    return ""


def _give_up(endpoint: Endpoint, target: Revision, fault: str, now: float) -> Decision:
    """The target is bad: go back to a revision that still runs, where there is one."""
    bad = replace(
        target, state=REVISION_LIFE.move(target.state, RevisionState.BAD), reason=fault, open=0, count=0, closed_at=now
    )
    endpoint = endpoint.with_revision(bad)
    said = f"revision {target.number} is bad: {fault}"
    actions = (Stop(target.number),) if target.run else ()
    back = _fallback(endpoint)
    if not back:
        state = ENDPOINT_LIFE.move(endpoint.state, EndpointState.FAILED)
        return Decision(replace(endpoint, state=state, reason=said, fault=said, updated=now), actions, (said,))
    old = again(endpoint.revision(back), now)
    said += f"; back to revision {back}"
    changed = replace(endpoint.with_revision(old), target=back, state=EndpointState.UPDATING)
    return Decision(replace(changed, reason=said, fault=said, updated=now), actions, (said,))


def again(revision: Revision, now: float) -> Revision:
    """A draining revision that is wanted after all. One that still runs opens what it has at once."""
    if revision.state is not RevisionState.DRAINING:
        return revision
    return replace(revision, state=RevisionState.ROLLING, open=revision.count, moved=now, ready=0)


def _fallback(endpoint: Endpoint) -> int:
    """The number of the revision to go back to: the stable one, else the newest that still runs; 0 for none."""
    running = [r.number for r in endpoint.revisions if r.state is RevisionState.DRAINING and r.count]
    return endpoint.stable if endpoint.stable in running else max(running, default=0)


def _ready(revision: Revision, run: RunSeen) -> int:
    return sum(1 for replica in run.replicas if replica.ready and replica.index < revision.open)


def _stop_all(endpoint: Endpoint, seen: Mapping[int, RunSeen]) -> Decision:
    running = [r for r in endpoint.revisions if r.run and not seen.get(r.number, RunSeen(ended=True)).ended]
    closed = tuple(replace(r, open=0) for r in endpoint.revisions)
    return Decision(replace(endpoint, revisions=closed), tuple(Stop(r.number) for r in running))


class _Step:
    """One pass over an endpoint; collects what changes."""

    def __init__(self, endpoint: Endpoint, seen: Mapping[int, RunSeen], now: float) -> None:
        self.before = endpoint
        self.endpoint = endpoint
        self.seen = seen
        self.now = now
        self.actions: list[Action] = []
        self.said: list[str] = []

    @property
    def target(self) -> Revision:
        return self.endpoint.revision(self.endpoint.target)

    def run(self, revision: Revision) -> RunSeen:
        return self.seen.get(revision.number, RunSeen())

    def others(self) -> list[Revision]:
        """Revisions that still run and are not the target, oldest first."""
        return [r for r in self.endpoint.revisions if r.number != self.endpoint.target and r.count]

    def put(self, revision: Revision) -> None:
        self.endpoint = self.endpoint.with_revision(revision)

    def serving(self) -> int:
        """Replicas that take traffic and are ready, of all revisions."""
        return sum(_ready(r, self.run(r)) for r in self.endpoint.revisions)

    def raise_target(self) -> None:
        """Add replicas of the target, as many as the surge allows."""
        target, wanted = self.target, self.endpoint.replicas
        others = sum(r.count - self._down(r) for r in self.others())
        room = wanted + SURGE - others - target.count if others else wanted - target.count
        count = min(wanted, target.count + max(0, room))
        if count <= target.count:
            self._remember_ready(target)
            return
        action: Action = Scale(target.number, count) if target.run else Submit(target.number, count)
        self.actions.append(action)
        self.put(replace(target, count=count, open=count, moved=self.now))
        self.said.append(f"revision {target.number}: {target.count} → {count} replicas")

    def _down(self, revision: Revision) -> int:
        """Open replicas of an old revision that do not serve."""
        return revision.open - _ready(revision, self.run(revision))

    def _remember_ready(self, target: Revision) -> None:
        ready = _ready(target, self.run(target))
        if target.state is RevisionState.ROLLING and ready > target.ready:
            self.put(replace(target, ready=ready, moved=self.now))

    def close_surplus(self) -> None:
        """Close old replicas to new requests, and the target's that are more than wanted, while enough are ready.

        The stable revision's come last: it keeps one closed replica, which would hold the surge's place for ever.
        """
        for revision in sorted(self.others(), key=lambda r: r.number == self.endpoint.stable):
            needed = revision.number == self.endpoint.stable and not _ready(self.target, self.run(self.target))
            self._close(revision, self.endpoint.replicas if needed else 0)
        self._close(self.target, self.endpoint.replicas)

    def _close(self, revision: Revision, least: int) -> None:
        while revision.open > least:
            last = next((r for r in self.run(revision).replicas if r.index == revision.open - 1), None)
            if last is not None and last.ready and self.serving() - 1 < self.endpoint.replicas:
                return
            revision = replace(revision, open=revision.open - 1, closed_at=self.now)
            self.put(revision)
            self.said.append(f"revision {revision.number}: replica {revision.open} closed, draining")

    def reap(self) -> None:
        """Scale away what has drained. What was closed in this very step is seen again in the next one first."""
        for revision in [*self.others(), self.target]:
            before = self.before.revision(revision.number)
            if revision.open >= revision.count or before.open != revision.open:
                continue
            closed = [r for r in self.run(revision).replicas if r.index >= revision.open]
            patience = self.now - revision.closed_at < DRAIN_S
            if patience and any(r.outstanding for r in closed):
                continue
            count = max(revision.open, self._kept(revision))
            if count == revision.count:
                continue
            self.actions.append(Scale(revision.number, count) if count else Stop(revision.number))
            self.put(replace(revision, count=count))
            self.said.append(f"revision {revision.number}: {revision.count} → {count} replicas")

    def _kept(self, revision: Revision) -> int:
        """The stable revision keeps one replica, closed if need be, until the target has proven itself."""
        return int(revision.number == self.endpoint.stable and self.target.state is RevisionState.ROLLING)

    def settle(self) -> None:
        """Move states along: active when everything wanted is ready and nothing old is left."""
        for revision in self.endpoint.revisions:
            if revision.number == self.endpoint.target:
                continue
            if revision.state is RevisionState.DRAINING and not revision.count:
                self.put(replace(revision, state=RevisionState.RETIRED))
        target, wanted = self.target, self.endpoint.replicas
        closed = not any(r.open for r in self.others())
        whole = _ready(target, self.run(target)) >= wanted and target.count == wanted and closed
        if whole and target.state is RevisionState.ROLLING:
            self.put(replace(target, state=RevisionState.ACTIVE))
            self.endpoint = replace(self.endpoint, stable=target.number)
            self.said.append(f"revision {target.number} serves with {wanted} replicas")
        self._name_state(whole=whole)

    def _name_state(self, *, whole: bool) -> None:
        ready, wanted, reason = self.serving(), self.endpoint.replicas, ""
        if not whole and self.target.state is RevisionState.ROLLING:
            state = EndpointState.UPDATING if self.endpoint.stable else EndpointState.CREATING
            reason = self.run(self.target).reason
        elif ready < wanted:
            state, reason = EndpointState.DEGRADED, f"{ready} of {wanted} replicas are ready"
        else:
            state = EndpointState.READY
        if ENDPOINT_LIFE.may(self.endpoint.state, state):
            self.endpoint = replace(self.endpoint, state=state, reason=reason)

    def decision(self) -> Decision:
        endpoint = _forget(self.endpoint)
        if endpoint != self.before:
            endpoint = replace(endpoint, updated=self.now)
        return Decision(endpoint, tuple(self.actions), tuple(self.said))


def drains(endpoint: Endpoint) -> bool:
    """Whether a replica that takes no more requests still runs: only the gateway knows when its last one ends."""
    return any(revision.open < revision.count for revision in endpoint.revisions)


def _forget(endpoint: Endpoint) -> Endpoint:
    """Keep what runs, what may be gone back to, and the newest few."""
    kept = {endpoint.target, endpoint.stable} | {r.number for r in endpoint.revisions if r.count}
    newest = {r.number for r in endpoint.revisions[-REMEMBERED:]}
    return replace(endpoint, revisions=tuple(r for r in endpoint.revisions if r.number in kept | newest))


def start(endpoint: Endpoint, revision: Revision, now: float) -> Endpoint:
    """The endpoint with a new revision as its target; those before it drain as it comes up."""
    older = tuple(
        replace(r, state=RevisionState.DRAINING) if REVISION_LIFE.may(r.state, RevisionState.DRAINING) else r
        for r in endpoint.revisions
    )
    alive = EndpointState.UPDATING if endpoint.stable else EndpointState.CREATING
    state = ENDPOINT_LIFE.move(endpoint.state, alive) if ENDPOINT_LIFE.may(endpoint.state, alive) else endpoint.state
    return replace(
        endpoint, revisions=(*older, revision), target=revision.number, state=state, reason="", fault="", updated=now
    )


def previous(endpoint: Endpoint) -> Revision:
    """The revision that served before the target. Raises ConflictError when there is none."""
    before = [r for r in endpoint.revisions if r.number < endpoint.target and r.state is not RevisionState.BAD]
    if not before:
        raise ConflictError(
            f"endpoint {endpoint.name} has no earlier revision",
            hint="nexus endpoints show lists its revisions.",
        )
    return before[-1]


def go_back(endpoint: Endpoint, back: Revision, now: float) -> Endpoint:
    """Roll over to an earlier revision: to itself while it still runs, else to a copy of it under a new number."""
    if back.number == endpoint.target:
        return endpoint
    if back.state is not RevisionState.DRAINING or not back.count:
        number = max(r.number for r in endpoint.revisions) + 1
        fresh = Revision(
            number=number,
            plan=back.plan,
            model=back.model,
            engine=back.engine,
            began=now,
            moved=now,
            pure=back.pure,
            limits=back.limits,
            example=back.example,
            job=back.job,
        )
        return start(endpoint, fresh, now)
    target = endpoint.revision(endpoint.target)
    state = RevisionState.DRAINING if REVISION_LIFE.may(target.state, RevisionState.DRAINING) else target.state
    turned = endpoint.with_revision(replace(target, state=state)).with_revision(again(back, now))
    return replace(turned, target=back.number, state=EndpointState.UPDATING, reason="", fault="", updated=now)
