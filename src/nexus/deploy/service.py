"""Deploy: endpoints as people want them, and the loop that makes them so."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import replace

import structlog

from nexus.deploy.core import adoption, plans, rollout, views
from nexus.deploy.model import (
    ENDPOINT_LIFE,
    ENDPOINTS,
    Deployment,
    Endpoint,
    EndpointState,
    EndpointView,
    Revision,
    RevisionState,
    Routes,
)
from nexus.deploy.ports import Jobs, Models, Traffic
from nexus.infra.hints import Hints
from nexus.kernel.clock import Clock
from nexus.kernel.errors import ConflictError, NexusError, NotFoundError, UsageError
from nexus.kernel.events import Event
from nexus.kernel.ids import is_name, new_id
from nexus.kernel.records import Drop, Records
from nexus.launch.model import RUN_LIFE, RUNS, Submission, Task

log = structlog.get_logger()

TOPIC = "endpoints"  # hinted when an endpoint changed
WAKE_ON = (TOPIC, "launch.schedule")  # launch hints at the latter whenever a run or a task changed
IDLE_S = 15.0  # between looks when nobody hints: deadlines of rollouts have minutes
TICK_S = 0.5  # between looks while something moves of which nobody hints, such as requests that drain
GATHER_S = 0.02  # after a hint, for those that come with it: one look for all of them
_MOST = 100_000  # endpoints of one server


class Deploy:
    """Endpoints over runs. `run_forever` is the control loop; everything else is a use case."""

    def __init__(
        self,
        records: Records,
        launch: Jobs,
        models: Models,
        traffic: Traffic,
        clock: Clock,
        entropy: Callable[[int], bytes],
        hints: Hints,
    ) -> None:
        self.records = records
        self.launch = launch
        self.models = models
        self.traffic = traffic
        self.clock = clock
        self.entropy = entropy
        self.hints = hints
        self._version = 0

    # ------------------------------------------------------------------ use cases

    async def deploy(self, deployment: Deployment, *, project: str, user: str) -> EndpointView:
        """Create the endpoint, or roll it over to a new revision. Raises UsageError, NotFoundError, ConflictError.

        When only `replicas` differs from what serves, the endpoint is scaled without a new revision.
        """
        old = await self._find(project, deployment.name)
        serving = old.revision(old.target) if old else None
        plan = deployment.plan or (serving.plan if serving else None)
        if plan is None:
            raise NotFoundError(
                f"there is no endpoint {deployment.name} to update",
                hint="Say what serves: nexus deploy FILE, or --engine and --model.",
            )
        now = self.clock.now()
        model = await self._pinned(project, deployment, serving)
        revision = plans.revision(deployment, serving, plan, model, now)
        replicas = (old.replicas if old else 1) if deployment.replicas is None else deployment.replicas
        if replicas < 1:
            raise UsageError("an endpoint needs one replica at least", hint="Remove it with: nexus endpoints delete")
        endpoint = self._wanted(old, revision, replicas, project=project, user=user, name=deployment.name)
        what = f"revision {endpoint.target}, {replicas} replicas"
        await self.records.apply((ENDPOINTS, endpoint), events=[self._event(endpoint, "endpoint.deployed", what, user)])
        self.hints.hint(TOPIC)
        return await self.show(project, deployment.name)

    def _wanted(
        self, old: Endpoint | None, revision: Revision, replicas: int, *, project: str, user: str, name: str
    ) -> Endpoint:
        now = self.clock.now()
        if old is None:
            return self._fresh(revision, replicas, project=project, user=user, name=plans.checked_name(name))
        if old.state is EndpointState.DELETING:
            raise ConflictError(f"endpoint {name} is being deleted", hint="Try again when it is gone.")
        wanted = replace(old, replicas=replicas, updated=now)
        serving = old.revision(old.target)
        if serving.state is not RevisionState.BAD and plans.same(serving, revision):
            return wanted
        number = max(known.number for known in old.revisions) + 1
        return rollout.start(wanted, replace(revision, number=number), now)

    def _fresh(self, revision: Revision, replicas: int, *, project: str, user: str, name: str) -> Endpoint:
        now = self.clock.now()
        return Endpoint(
            id=new_id("end", self.entropy(8)),
            project=project,
            created=now,
            name=name,
            user=user,
            replicas=replicas,
            target=revision.number,
            revisions=(revision,),
            reason="waits for its first replica",
            updated=now,
        )

    async def _pinned(self, project: str, deployment: Deployment, serving: Revision | None) -> str:
        """The model's version at this moment: a revision never changes under its users."""
        model = deployment.model or plans.model_of(deployment.plan) or (serving.model if serving else "")
        return await self.models.pin(project, model) if model.startswith("model://") else model

    async def rollback(self, project: str, name: str, to: int = 0, *, user: str = "nexus") -> EndpointView:
        """Serve an earlier revision again: `to`, or the one that served before. Raises NotFoundError, ConflictError."""
        endpoint = await self._get(project, name)
        if endpoint.state is EndpointState.DELETING:
            raise ConflictError(f"endpoint {name} is being deleted")
        now = self.clock.now()
        back = endpoint.revision(to) if to else rollout.previous(endpoint)
        changed = rollout.go_back(endpoint, back, now)
        what = f"revision {endpoint.target} → {back.number}"
        event = self._event(endpoint, "endpoint.rolled_back", what, user)
        await self.records.apply((ENDPOINTS, changed), events=[event])
        self.hints.hint(TOPIC)
        return await self.show(project, name)

    async def delete(self, project: str, name: str, *, user: str = "nexus") -> None:
        """Stop every replica and forget the endpoint. Raises NotFoundError."""
        endpoint = await self._get(project, name)
        state = ENDPOINT_LIFE.move(endpoint.state, EndpointState.DELETING)
        changed = replace(endpoint, state=state, reason="stops its replicas", updated=self.clock.now())
        await self.records.apply((ENDPOINTS, changed), events=[self._event(endpoint, "endpoint.deleted", "", user)])
        self.hints.hint(TOPIC)

    async def show(self, project: str, name: str) -> EndpointView:
        """One endpoint with its replicas. Raises NotFoundError."""
        return await self._view(await self._get(project, name))

    async def list(self, project: str) -> list[EndpointView]:
        """Every endpoint of a project, oldest first."""
        return [await self._view(endpoint) for endpoint in await self.records.find(ENDPOINTS, {"project": project})]

    # ------------------------------------------------------------------ the loop

    async def run_forever(self) -> None:
        """Reconcile on every hint; without one, often while something drains, else now and then. Cancel to stop."""
        while True:
            future = self.hints.listen(*WAKE_ON)
            wait_s = TICK_S
            try:
                if await self.reconcile_once():
                    wait_s = IDLE_S
            except Exception:
                log.exception("deploy.loop")
            await self.hints.until(future, wait_s, *WAKE_ON)
            await self.clock.sleep(GATHER_S)

    async def reconcile_once(self) -> bool:
        """Bring every endpoint one step nearer to what is wanted, then tell the gateway where requests go.

        Whether the next look may wait for a hint: every endpoint took its step, and nothing drains.
        """
        await self._adopt()
        calm = True
        for endpoint in await self.records.find(ENDPOINTS, limit=_MOST):
            try:
                calm &= not rollout.drains(await self._step(endpoint))
            except (ConflictError, NotFoundError):  # changed meanwhile: the next round sees it anew
                calm = False
            except Exception as error:  # the others are looked after all the same
                log.exception("deploy.endpoint", endpoint=endpoint.name, project=endpoint.project)
                await self._hampered(endpoint, error)
                calm = False
        await self._publish()
        return calm

    async def _adopt(self) -> None:
        """Take in deployments that were launched as jobs, from a file or from the Job Store."""
        live = {"kind": adoption.KIND, "state": [str(state) for state in RUN_LIFE.live]}
        for run in await self.records.find(RUNS, live):
            name = adoption.endpoint_of(run)
            if not name or not is_name(name):
                continue
            old = await self._find(run.project, name)
            if old and (old.state is EndpointState.DELETING or any(r.run == run.id for r in old.revisions)):
                continue
            now = self.clock.now()
            number = max(r.number for r in old.revisions) + 1 if old else 1
            revision = adoption.adopted(run, number, now)
            if old:
                endpoint = rollout.start(replace(old, replicas=max(1, revision.count)), revision, now)
            else:
                endpoint = self._fresh(revision, max(1, revision.count), project=run.project, user=run.user, name=name)
            event = self._event(endpoint, "endpoint.deployed", f"run {run.id}", run.user)
            with contextlib.suppress(ConflictError):
                await self.records.apply((ENDPOINTS, endpoint), events=[event])

    async def _step(self, endpoint: Endpoint) -> Endpoint:
        tasks = await self._tasks(endpoint)
        seen = {r.number: await self._seen(r, tasks[r.number]) for r in endpoint.revisions if r.number in tasks}
        decision = rollout.decide(endpoint, seen, self.clock.now())
        changed = decision.endpoint
        for action in decision.actions:
            changed = await self._act(changed, action)
        if endpoint.state is EndpointState.DELETING and not decision.actions:
            await self.records.apply(Drop(ENDPOINTS, endpoint), events=[self._event(endpoint, "endpoint.gone", "")])
            self.hints.hint(TOPIC)
        elif changed != endpoint:
            events = [self._event(endpoint, "endpoint.moved", said) for said in decision.said]
            await self.records.apply((ENDPOINTS, changed), events=events)
            self.hints.hint(TOPIC)
        return changed

    async def _hampered(self, endpoint: Endpoint, error: Exception) -> None:
        """Say on the endpoint itself why it gets no further; it is tried again."""
        reason = error.message if isinstance(error, NexusError) else "its step failed; the server's log says why"
        if endpoint.reason != reason:
            with contextlib.suppress(ConflictError):
                await self.records.apply((ENDPOINTS, replace(endpoint, reason=reason, updated=self.clock.now())))

    async def _act(self, endpoint: Endpoint, action: rollout.Action) -> Endpoint:
        revision = endpoint.revision(action.revision)
        if isinstance(action, rollout.Submit):
            submission = Submission(
                name=f"{endpoint.name}-{revision.number}",
                plan=plans.with_count(revision.plan, action.count),
                job=revision.job,
                tags={"endpoint": endpoint.name, "revision": str(revision.number)},
                key=f"{endpoint.id}:{revision.number}",
            )
            run = await self.launch.submit(submission, project=endpoint.project, user=endpoint.user)
            return endpoint.with_revision(replace(revision, run=run.id))
        if isinstance(action, rollout.Scale):
            await self.launch.scale(revision.run, plans.REPLICA, action.count)
        else:
            await self.launch.stop(revision.run)
        return endpoint

    async def _publish(self) -> None:
        found = await self.records.find(ENDPOINTS, limit=_MOST)
        routes = [views.route(endpoint, await self._tasks(endpoint)) for endpoint in found]
        self._version += 1
        self.traffic.follow(Routes(self._version, tuple(route for route in routes if route is not None)))

    # ------------------------------------------------------------------ reading

    async def _tasks(self, endpoint: Endpoint) -> dict[int, tuple[Task, ...]]:
        """The tasks of each revision that may still have some."""
        live = [r for r in endpoint.revisions if r.run and (r.count or endpoint.state is EndpointState.DELETING)]
        return {r.number: tuple(await self.launch.tasks(r.run)) for r in live}

    async def _seen(self, revision: Revision, tasks: tuple[Task, ...]) -> rollout.RunSeen:
        run = await self.launch.run(revision.run)
        return views.seen(run, tasks, self.traffic.outstanding)

    async def _view(self, endpoint: Endpoint) -> EndpointView:
        counted = self.traffic.counted(endpoint.project, endpoint.name)
        tasks = await self._tasks(endpoint)
        return views.view(endpoint, tasks, self.traffic.url, counted, self.traffic.outstanding)

    async def _find(self, project: str, name: str) -> Endpoint | None:
        found = await self.records.find(ENDPOINTS, {"project": project, "name": name})
        return found[0] if found else None

    async def _get(self, project: str, name: str) -> Endpoint:
        endpoint = await self._find(project, name)
        if endpoint is None:
            names = [e.name for e in await self.records.find(ENDPOINTS, {"project": project})]
            hint = f"There are: {', '.join(names)}." if names else "Make one: nexus deploy FILE, or nexus chat."
            raise NotFoundError(f"no such endpoint: {name}", hint=hint)
        return endpoint

    def _event(self, endpoint: Endpoint, kind: str, what: str, actor: str = "nexus") -> Event:
        data = {"endpoint": endpoint.name, "what": what}
        return Event(kind, endpoint.id, endpoint.project, self.clock.now(), actor=actor, data=data)
