"""What people do with runs: hand them in, look, stop, start again, scale."""

from __future__ import annotations

import hashlib
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace

from nexus.kernel.errors import ConflictError, NoCapacityError, NotFoundError, UsageError
from nexus.kernel.events import Event
from nexus.kernel.identity import Principal, PrincipalKind, Role
from nexus.kernel.ids import is_id, is_name, new_id
from nexus.kernel.records import Records, Value
from nexus.launch.core.events import run_asked, run_moved
from nexus.launch.core.lifecycle import held_cost
from nexus.launch.core.placement.place import in_words, place
from nexus.launch.core.placement.rooms import Rooms
from nexus.launch.core.placement.whatif import whatif
from nexus.launch.model import (
    NODES,
    RUN_LIFE,
    RUNS,
    TASK_LIFE,
    TASKS,
    Node,
    OnExit,
    Placement,
    RolePlan,
    Run,
    RunPlan,
    RunState,
    Submission,
    Task,
    WhatIf,
)
from nexus.launch.service.context import EVERYTHING, Context, run_topic
from nexus.launch.service.inputs import Inputs

_PLACES = 20  # of a run's nodes, how many a list names
_PLACES_LOOK = 2000  # how many of the newest tasks of ended runs that is looked up in
_PREFIX_LOOK = 5000  # how many of the newest runs a shortened id is looked for among
MOST_TASKS = 10_000
MOST_SUBMISSIONS = 1000
_DIGEST = re.compile(r"[0-9a-f]{64}")


async def find_run(records: Records, project: str, reference: str) -> Run:
    """A project's run by id, the newest by that name, or by the beginning of an id that only one has.

    Raises NotFoundError, UsageError when several ids begin so.
    """
    exact = await records.get(RUNS, reference) if is_id(reference) else None
    if exact is not None and exact.project == project:
        return exact
    mine = {"project": project}
    named = await records.find(RUNS, {**mine, "name": reference}, limit=1, newest=True)
    if named:
        return named[0]
    beginning = reference if reference.startswith("run_") else f"run_{reference}"
    newest = await records.find(RUNS, mine, limit=_PREFIX_LOOK, newest=True)
    found = [run for run in newest if reference and run.id.startswith(beginning)]
    if len(found) == 1:
        return found[0]
    if found:
        several = ", ".join(run.id for run in found[:3])
        raise UsageError(f"{len(found)} runs begin with {reference!r}: {several}", hint="Write more of the id.")
    raise NotFoundError(f"no such run: {reference}", hint="`nexus runs` lists them.")


class Runs:
    """Use cases around one run."""

    def __init__(self, context: Context, inputs: Inputs) -> None:
        self._context = context
        self._inputs = inputs

    async def submit(self, principal: Principal, submission: Submission) -> Run:
        (run,) = await self.submit_many(principal, [submission])
        return run

    async def submit_many(self, principal: Principal, submissions: Sequence[Submission]) -> list[Run]:
        principal.need(Role.MEMBER)
        if len(submissions) > MOST_SUBMISSIONS:
            raise UsageError(f"one request hands in at most {MOST_SUBMISSIONS} runs", hint="Send several.")
        for submission in submissions:
            check_plan(submission)

        async def step() -> list[Run]:
            """Found by their keys, or made; of two requests at once with one key, the second finds the first's."""
            runs = [await self._by_key(principal, one.key) or await self._made(principal, one) for one in submissions]
            new: dict[str, Run] = {}
            for run in runs:
                if run.version == 0:
                    new.setdefault(run.id, run)  # a key that comes twice means one run
            if new:
                events = [run_moved(run, run.created, principal.subject) for run in new.values()]
                await self._context.commit(*((RUNS, run) for run in new.values()), events=events)
            return [replace(new[run.id], version=1) if run.id in new else run for run in runs]

        return await self._context.retry(step)

    async def _made(self, principal: Principal, submission: Submission) -> Run:
        """A new run. Raises NotFoundError for what it needs and does not exist."""
        after = tuple([(await self.run(principal, ref)).id for ref in submission.plan.after])
        plan = replace(submission.plan, after=after)
        if not plan.after:  # what other runs will leave behind cannot be looked up yet
            await self._inputs.resolve(principal.project, plan)
        await self._inputs.check_secrets(principal.project, plan.secrets)
        return self._new_run(principal, replace(submission, plan=plan))

    async def plan(self, principal: Principal, submission: Submission) -> Placement:
        principal.need(Role.VIEWER)
        check_plan(submission)
        plan = submission.plan
        nodes, held = await self._capacity(principal)
        wanted = [(role.name, index) for role in plan.roles for index in range(role.count)]
        return place(plan, wanted, nodes, held, explain=True)

    async def whatif(self, principal: Principal, reference: str) -> tuple[WhatIf, ...]:
        """What one change to the run would bring for those of its tasks that have no place."""
        run = await self.run(principal, reference)
        if RUN_LIFE.is_final(run.state):
            return ()
        nodes, held = await self._capacity(principal)
        mine = [task for task in held if task.run == run.id]
        placed = {(task.role, task.index) for task in mine}
        every = ((role.name, index) for role in run.plan.roles for index in range(run.count(role)))
        wanted = [want for want in every if want not in placed]
        if not wanted:
            return ()
        spent = sum(task.price for task in mine)
        return whatif(run.plan, wanted, Rooms.of(nodes, held), spent=spent, policy=self._context.policy)

    async def _capacity(self, principal: Principal) -> tuple[list[Node], list[Task]]:
        """The nodes that the project may use, and every live task."""
        nodes = await self._context.nodes_for(principal.project)
        live = {"state": [str(state) for state in TASK_LIFE.live]}
        return nodes, await self._context.records.find(TASKS, live, limit=EVERYTHING)

    async def need_place(self, principal: Principal, submission: Submission) -> Placement:
        """`plan`, or every reason why not. Raises NoCapacityError."""
        placement = await self.plan(principal, submission)
        if not placement.fits:
            nodes = await self._context.nodes_for(principal.project)
            reasons = in_words(placement.rejections, {node.id: node.name for node in nodes})
            hint = "`nexus nodes` shows what there is; ask for less, or join another machine."
            raise NoCapacityError(placement.reason, hint=hint, rejections=list(reasons))
        return placement

    async def newest(
        self, principal: Principal, where: Mapping[str, Value], *, limit: int, before: Run | None
    ) -> list[Run]:
        principal.need(Role.VIEWER)
        wanted = {name: value for name, value in where.items() if value is not None}
        asked = {**wanted, "project": principal.project}
        return await self._context.records.find(RUNS, asked, limit=limit, newest=True, before=before)

    async def run(self, principal: Principal, reference: str) -> Run:
        """By id, by the beginning of an id that only one has, or the newest by that name."""
        principal.need(Role.VIEWER)
        return await find_run(self._context.records, principal.project, reference)

    async def watch(self, principal: Principal, reference: str, version: int, wait_s: float) -> Run:
        """The run, as soon as it is not at `version` any more; as it is after `wait_s`."""
        run = await self.run(principal, reference)
        deadline = self._context.clock.monotonic() + wait_s
        while run.version == version:
            topic = run_topic(run.id)
            woken = self._context.hints.listen(topic)
            try:
                run = await self._context.records.get(RUNS, run.id) or run
                left = deadline - self._context.clock.monotonic()
                if run.version != version or left <= 0:
                    break
                await self._context.hints.until(woken, left, topic)
            finally:
                self._context.hints.drop(woken, topic)
        return run

    async def tasks(self, principal: Principal, reference: str) -> list[Task]:
        run = await self.run(principal, reference)
        found = await self._context.records.find(TASKS, {"run": run.id}, limit=EVERYTHING)
        ranks = {role.name: rank for rank, role in enumerate(run.plan.roles)}
        return sorted(found, key=lambda task: (ranks.get(task.role, 0), task.index, task.attempt))

    async def priced(self, runs: Sequence[Run]) -> list[Run]:
        live = await self._live_tasks(runs)
        now = self._context.clock.now()
        held = {run_id: sum(held_cost(task, now) for task in tasks) for run_id, tasks in live.items()}
        return [replace(run, cost=run.cost + held.get(run.id, 0.0)) for run in runs]

    async def places(self, runs: Sequence[Run]) -> dict[str, list[str]]:
        records, tasks = self._context.records, await self._live_tasks(runs)
        over = [run.id for run in runs if run.id not in tasks and run.started is not None]
        if over:
            last = {run.id: run.attempt for run in runs}
            for task in await records.find(TASKS, {"run": over}, limit=_PLACES_LOOK, newest=True):
                if task.run_attempt == last[task.run]:
                    tasks[task.run].append(task)
        found: dict[str, list[str]] = {}
        for run in runs:
            nodes = list(dict.fromkeys(task.node for task in tasks.get(run.id, ())))[:_PLACES]
            names = [await records.get(NODES, node) for node in nodes]
            found[run.id] = sorted(node.name if node else nodes[at] for at, node in enumerate(names))
        return found

    async def _live_tasks(self, runs: Sequence[Run]) -> defaultdict[str, list[Task]]:
        """The live tasks of these runs, by run: from memory, where the server keeps them."""
        found: defaultdict[str, list[Task]] = defaultdict(list)
        live = [run.id for run in runs if not RUN_LIFE.is_final(run.state)]
        if live:
            where = {"run": live, "state": TASK_LIFE.live}
            for task in await self._context.records.find(TASKS, where, limit=EVERYTHING):
                found[task.run].append(task)
        return found

    async def events(
        self, principal: Principal, *, after: int, subject: str | None, limit: int, newest: bool
    ) -> list[Event]:
        principal.need(Role.VIEWER)
        return await self._context.records.events(
            after=after, subject=subject, project=principal.project, limit=limit, newest=newest
        )

    async def stop(self, principal: Principal, reference: str) -> Run:
        async def step() -> Run:
            run = await self._mine(principal, reference)
            if RUN_LIFE.is_final(run.state) or run.wanted == "stop":
                return run
            stopped = replace(run, wanted="stop")
            asked = run_asked(run, "stop_asked", self._context.clock.now(), principal.subject)
            await self._context.commit((RUNS, stopped), events=[asked])
            return replace(stopped, version=run.version + 1)

        return await self._context.retry(step)

    async def restart(self, principal: Principal, reference: str) -> Run:
        old = await self._mine(principal, reference)
        again = Submission(name=old.name, plan=replace(old.plan, after=()), job=old.job, tags=old.tags)
        return await self.submit(principal, again)

    async def scale(self, principal: Principal, reference: str, role_name: str, count: int) -> Run:
        async def step() -> Run:
            run = await self._mine(principal, reference)
            check_scale(run, role_name, count)
            if run.count(run.plan.role(role_name)) == count:
                return run
            scaled = replace(run, scale={**run.scale, role_name: count})
            now = self._context.clock.now()
            asked = run_asked(run, "scaled", now, principal.subject, role=role_name, count=count)
            await self._context.commit((RUNS, scaled), events=[asked])
            return replace(scaled, version=run.version + 1)

        return await self._context.retry(step)

    async def _mine(self, principal: Principal, reference: str) -> Run:
        """The run, if the caller may change it: a run's own token changes only that run."""
        if principal.kind is PrincipalKind.RUN:
            principal.need(Role.VIEWER)
            run = await self.run(principal, reference)
            if run.id == principal.subject:
                return run
        principal.need(Role.MEMBER)
        return await self.run(principal, reference)

    async def _by_key(self, principal: Principal, key: str) -> Run | None:
        if not key:
            return None
        asked = {"project": principal.project, "key": key}
        found = await self._context.records.find(RUNS, asked, limit=1)
        return found[0] if found else None

    def _new_run(self, principal: Principal, submission: Submission) -> Run:
        plan = submission.plan
        return Run(
            id=self._id_for(principal, submission.key),
            project=principal.project,
            created=self._context.clock.now(),
            name=submission.name,
            kind=plan.kind,
            plan=plan,
            state=RunState.QUEUED,
            user=principal.subject,
            job=submission.job,
            tags=dict(submission.tags),
            key=submission.key,
        )

    def _id_for(self, principal: Principal, key: str) -> str:
        """A key gives the id, so that of two requests at once with the same key the store takes one."""
        if not key:
            return self._context.new_id("run")
        return new_id("run", hashlib.sha256(f"{principal.project}/{key}".encode()).digest())


def check_plan(submission: Submission) -> None:
    """Refuse a plan that could not run anywhere. Raises UsageError."""
    plan = submission.plan
    names = [role.name for role in plan.roles]
    if not is_name(submission.name):
        raise UsageError(f"{submission.name!r} is not a name", hint="Use lower case letters, digits, and . _ -")
    if plan.workspace is not None and not _DIGEST.fullmatch(plan.workspace):
        raise UsageError("the workspace is not named by a SHA-256 digest", hint="Upload it: PUT /v1/blobs/SHA256.")
    if not names or len(set(names)) < len(names):
        raise UsageError("a plan needs roles with different names")
    if sum(role.count for role in plan.roles) > MOST_TASKS:
        raise UsageError(f"a run has at most {MOST_TASKS} tasks")
    for role in plan.roles:
        if role.count < 0 or not (role.argv or role.script):
            raise UsageError(f"the role {role.name} has nothing to run", hint="Give it a command.")
    if not any(role.count for role in plan.roles) and not any(role.on_exit is OnExit.RESTART for role in plan.roles):
        raise UsageError("the plan asks for no task at all")


def check_scale(run: Run, role_name: str, count: int) -> None:
    """Refuse what cannot grow or shrink. Raises NotFoundError, ConflictError, UsageError."""
    role = next((role for role in run.plan.roles if role.name == role_name), None)
    if role is None:
        names = ", ".join(role.name for role in run.plan.roles)
        raise NotFoundError(f"the run {run.name} has no role {role_name}", hint=f"It has: {names}.")
    if RUN_LIFE.is_final(run.state) or run.wanted == "stop":
        raise ConflictError(f"the run {run.name} is {run.state}", hint="Start it again: nexus restart", final=True)
    if not _can_scale(run.plan, role):
        raise UsageError(
            f"the role {role_name} has a fixed size", hint="Only replicas, and clients beside a server, can be scaled."
        )
    if not 0 <= count <= MOST_TASKS:
        raise UsageError(f"{count} is not between 0 and {MOST_TASKS}")


def _can_scale(plan: RunPlan, role: RolePlan) -> bool:
    if role.gang:
        return False
    with_server = any(other.on_exit is OnExit.ANY for other in plan.roles)
    return role.on_exit is OnExit.RESTART or (role.on_exit is OnExit.IGNORE and with_server)
