"""The one door to Launch, for the HTTP routes, for other slices in the same process, and for simulations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from nexus.infra.hints import Hints
from nexus.kernel.clock import Clock
from nexus.kernel.errors import MissingError
from nexus.kernel.events import Event
from nexus.kernel.identity import Principal
from nexus.kernel.records import Records, Value
from nexus.launch.core.policy import Policy
from nexus.launch.core.queue.views import Waiting
from nexus.launch.model import Node, Placement, Run, Submission, Task, WhatIf
from nexus.launch.ports import Entropy, Machinery, Mint, Secrets, Tracker
from nexus.launch.protocol import Desired, NodeInfo, Report
from nexus.launch.service.channel import Channel
from nexus.launch.service.context import Context, Rules
from nexus.launch.service.fleets import Fleets
from nexus.launch.service.inputs import Inputs
from nexus.launch.service.nodes import Nodes
from nexus.launch.service.presence import Presence
from nexus.launch.service.provisioning import Provisioning
from nexus.launch.service.quotas import Quotas
from nexus.launch.service.relay import Relay
from nexus.launch.service.runs import Runs
from nexus.launch.service.scheduler import Scheduler


class Launch:
    """Runs, nodes, the agents' channel and the scheduler. A reference to a run is its id, an unambiguous beginning of
    it, or its name, which means the newest run of that name. Everything is checked against the caller's project.
    `relay` holds the calls into tasks and nodes, `quotas` what projects may hold.
    """

    def __init__(
        self,
        records: Records,
        clock: Clock,
        entropy: Entropy,
        *,
        hints: Hints,
        tracker: Tracker,
        mint: Mint,
        secrets: Secrets | None = None,
        machinery: Machinery | None = None,
        policy: Policy = Policy(),  # noqa: B008  (frozen)
        rules: Rules = Rules(),  # noqa: B008  (frozen)
    ) -> None:
        self.policy = policy
        self._context = Context(
            records=records,
            clock=clock,
            entropy=entropy,
            policy=policy,
            hints=hints,
            tracker=tracker,
            mint=mint,
            secrets=secrets,
            rules=rules,
            presence=Presence(clock.monotonic()),
        )
        records.listen(self._context.wake)
        inputs = Inputs(tracker, mint, secrets)
        self._runs = Runs(self._context, inputs)
        self._nodes = Nodes(self._context)
        self.quotas = Quotas(self._context)
        self.relay = Relay(self._context)
        self._channel = Channel(self._context, inputs, self.relay)
        self._scheduler = Scheduler(self._context, inputs)
        self._provisioning = Provisioning(self._context, machinery) if machinery is not None else None
        self._fleets = Fleets(self._context, self._provisioning) if self._provisioning is not None else None

    # ------------------------------------------------------------------ runs

    async def submit(self, principal: Principal, submission: Submission) -> Run:
        """Take a run in; the same key again gives the same run.

        Raises UsageError for a plan that cannot run, NotFoundError for inputs or secrets that do not exist.
        """
        return await self._runs.submit(principal, submission)

    async def submit_many(self, principal: Principal, submissions: Sequence[Submission]) -> list[Run]:
        """Take runs in, all of them or none, in their order. Raises as `submit` does."""
        return await self._runs.submit_many(principal, submissions)

    async def plan(self, principal: Principal, submission: Submission) -> Placement:
        """Where the run would go now, what it would cost per hour, and what was rejected why."""
        return await self._runs.plan(principal, submission)

    async def whatif(self, principal: Principal, reference: str) -> tuple[WhatIf, ...]:
        """What one change to a waiting run's request would bring; the one with the cheapest place first."""
        return await self._runs.whatif(principal, reference)

    async def waiting(self, principal: Principal, reference: str) -> Waiting:
        """The run's place in the queue, and the room that is kept for it or for others."""
        return self._scheduler.waiting(await self._runs.run(principal, reference))

    async def need_place(self, principal: Principal, submission: Submission) -> Placement:
        """`plan`, for callers that will not wait for a machine. Raises NoCapacityError with every reason."""
        return await self._runs.need_place(principal, submission)

    async def runs(
        self,
        principal: Principal,
        where: Mapping[str, Value] | None = None,
        *,
        limit: int = 100,
        before: Run | None = None,
    ) -> list[Run]:
        """The newest runs first; `where` may name `name`, `state`, `kind`, `user`; `before` continues after a run."""
        return await self._runs.newest(principal, where or {}, limit=limit, before=before)

    async def run(self, principal: Principal, reference: str) -> Run:
        """One run. Raises NotFoundError, UsageError when several ids begin so."""
        return await self._runs.run(principal, reference)

    async def watch(self, principal: Principal, reference: str, version: int, wait_s: float) -> Run:
        """One run as soon as its record is not at `version`; after `wait_s` at the latest."""
        return await self._runs.watch(principal, reference, version, wait_s)

    async def tasks(self, principal: Principal, reference: str) -> list[Task]:
        """All tasks of a run, of all attempts, in the plan's order."""
        return await self._runs.tasks(principal, reference)

    async def places(self, runs: Sequence[Run]) -> dict[str, list[str]]:
        """The names of the nodes where each of the runs is, or was when it ended; of many, the first few."""
        return await self._runs.places(runs)

    async def priced(self, runs: Sequence[Run]) -> list[Run]:
        """The runs with what each has cost until now: the stored `cost` counts ended tasks only."""
        return await self._runs.priced(runs)

    async def events(
        self,
        principal: Principal,
        *,
        after: int = 0,
        subject: str | None = None,
        limit: int = 1000,
        newest: bool = False,
    ) -> list[Event]:
        """What happened in the project; with `subject`, to one run or node."""
        return await self._runs.events(principal, after=after, subject=subject, limit=limit, newest=newest)

    async def stop(self, principal: Principal, reference: str) -> Run:
        """Ask a run to stop. Once this returns, the run never becomes SUCCEEDED; asking again changes nothing."""
        return await self._runs.stop(principal, reference)

    async def restart(self, principal: Principal, reference: str) -> Run:
        """A new run of the same plan."""
        return await self._runs.restart(principal, reference)

    async def scale(self, principal: Principal, reference: str, role: str, count: int) -> Run:
        """How many tasks of a role should be. Raises UsageError for a gang, ConflictError when the run is over."""
        return await self._runs.scale(principal, reference, role, count)

    # ------------------------------------------------------------------ nodes

    async def nodes(self, principal: Principal) -> list[Node]:
        """All nodes that the project may use, by name: its own, and those that others share."""
        return await self._nodes.nodes(principal)

    async def node(self, principal: Principal, reference: str) -> Node:
        """A node of the project, by id or name. Raises NotFoundError."""
        return await self._nodes.node(principal, reference)

    async def held(self, principal: Principal) -> list[Task]:
        """The live tasks on the nodes that the project may use. Those of others say only what they hold."""
        return await self._nodes.held(principal)

    async def drain(self, principal: Principal, reference: str, *, drain: bool = True) -> Node:
        """No new tasks for a node, or (`drain=False`) again."""
        return await self._nodes.drain(principal, reference, drain=drain)

    async def share(self, principal: Principal, reference: str, *, shared: bool = True) -> Node:
        """Let runs of every project use a node, or (`shared=False`) only those of its own. What runs there goes on."""
        return await self._nodes.share(principal, reference, shared=shared)

    async def remove(self, principal: Principal, reference: str) -> Node:
        """Forget a node. Raises ConflictError while it holds tasks."""
        return await self._nodes.remove(principal, reference)

    # ------------------------------------------------------------------ machines

    @property
    def fleets(self) -> Fleets:
        """Machines that providers start. Raises MissingError where the server was opened without any."""
        if self._fleets is None:
            raise MissingError("this server starts no machines", hint="Join one: nexus agent join URL TOKEN")
        return self._fleets

    async def provision_once(self) -> bool:
        """One look at the machines, applied; False when it should look again at once."""
        return self._provisioning is None or await self._provisioning.provision_once()

    async def provision_forever(self) -> None:
        """Start and end machines until cancelled."""
        if self._provisioning is not None:
            await self._provisioning.run_forever()

    # ------------------------------------------------------------------ agents

    async def join(self, info: NodeInfo, project: str) -> Node:
        """Take a machine in, under its name or, when that is taken, with a number behind it."""
        return await self._nodes.join(info, project)

    async def sync(self, node_id: str, report: Report, since: int, wait_s: float) -> Desired:
        """Take a node's report and answer what should be; waits up to `wait_s` (a heartbeat at most) for a change.

        Raises NotFoundError if the node was removed, UsageError for a protocol that this server does not speak.
        """
        return await self._channel.sync(node_id, report, since, wait_s)

    async def holds(self, node_id: str, task_id: str, epoch: int) -> Task:
        """The task, if the node holds this lease of it. Raises NotFoundError, FencedError."""
        return await self._channel.holds(node_id, task_id, epoch)

    # ------------------------------------------------------------------ the loop

    async def schedule_once(self) -> bool:
        """One look at the world, applied; False when somebody changed something meanwhile and it should look again."""
        return await self._scheduler.schedule_once()

    async def run_forever(self) -> None:
        """Schedule until cancelled."""
        await self._scheduler.run_forever()
