"""Where slices that do not see each other meet: one slice's service as another slice's port."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from nexus.access.model import Purpose
from nexus.access.service import Access
from nexus.deploy.model import ENDPOINTS
from nexus.kernel.errors import NotFoundError
from nexus.kernel.identity import Principal, PrincipalKind, Role
from nexus.kernel.records import Records
from nexus.launch.model import FLEETS, NODES, RUN_LIFE, RUNS, TASK_LIFE, TASKS, Machine, Run, Submission, Task
from nexus.launch.service import Launch
from nexus.launch.service.runs import find_run
from nexus.track.model import StreamOwner
from nexus.track.ports import RunStatus
from nexus.track.service import Track

_JOIN_S = 7 * 86_400.0  # a machine may wait long in its provider's queue before its agent joins


@dataclass(frozen=True)
class RunsByRecords:
    """Runs, for `track.ports.Runs`, `federate.ports.Runs`, and for Access: whose tokens still work."""

    records: Records

    async def find(self, project: str, run: str) -> RunStatus | None:
        try:
            found = await find_run(self.records, project, run)
        except NotFoundError:
            return None
        ended = RUN_LIFE.is_final(found.state) and not await self._live_tasks(found.id)
        return RunStatus(found.id, found.project, found.name, str(found.state), ended)

    async def is_live(self, run: str) -> bool:
        found = await self.records.get(RUNS, run)
        return found is not None and not RUN_LIFE.is_final(found.state)

    async def _live_tasks(self, run: str) -> bool:
        live = [str(state) for state in TASK_LIFE.live]
        return bool(await self.records.find(TASKS, {"run": run, "state": live}, limit=1))


@dataclass(frozen=True)
class LeasesByLaunch:
    """Leases, for `track.ports.Leases`."""

    launch: Launch

    async def owner(self, node_id: str, task_id: str, epoch: int) -> StreamOwner:
        task = await self.launch.holds(node_id, task_id, epoch)
        return StreamOwner(
            project=task.project,
            run=task.run,
            task=task.id,
            role=task.role,
            index=task.index,
            attempt=task.attempt,
        )


@dataclass(frozen=True)
class TokensByAccess:
    """Run tokens, for `launch.ports.Mint`."""

    access: Access

    async def __call__(self, run: Run, task: str) -> str:
        return self.access.run_token(run.id, run.project, task)


@dataclass(frozen=True)
class VouchByLaunch:
    """Which task is which, for `federate.ports.Vouch`."""

    records: Records
    access: Access

    async def place(self, run: str, task: str) -> tuple[str, int] | None:
        found = await self.records.get(TASKS, task)
        if found is None or found.run != run or TASK_LIFE.is_final(found.state):
            return None
        return found.role, found.index

    def secret(self, run: str) -> bytes:
        return self.access.run_secret(run, "federate")


@dataclass(frozen=True)
class UseByRecords:
    """What still works in a project, for `access.ports.InUse`."""

    records: Records

    async def __call__(self, project: str) -> str:
        live = [str(state) for state in RUN_LIFE.live]
        counts = {
            "run": len(await self.records.find(RUNS, {"project": project, "state": live})),
            "machine": len(await self.records.find(NODES, {"project": project})),
            "fleet": len(await self.records.find(FLEETS, {"project": project})),
            "endpoint": len(await self.records.find(ENDPOINTS, {"project": project})),
        }
        return ", ".join(f"{count} {what}{'s' if count > 1 else ''}" for what, count in counts.items() if count)


@dataclass(frozen=True)
class JoinTokensByAccess:
    """Tokens of machines that providers start, for `launch.ports.JoinTokens`."""

    access: Access

    async def issue(self, machine: Machine) -> str:
        made = await self.access.create(
            purpose=Purpose.JOIN, subject=machine.id, project=machine.project, lifetime_s=_JOIN_S
        )
        return made.secret

    async def revoke(self, node: str) -> None:
        await self.access.revoke_subject(Purpose.NODE, node)


@dataclass(frozen=True)
class JobsByLaunch:
    """Runs of endpoints, for `deploy.ports.Jobs`: Deploy knows a run by its id, and acts in the run's own project."""

    launch: Launch
    records: Records

    async def submit(self, submission: Submission, *, project: str, user: str) -> Run:
        return await self.launch.submit(_acting_for(user, project), submission)

    async def scale(self, run_id: str, role: str, count: int) -> Run:
        return await self.launch.scale(await self._who(run_id), run_id, role, count)

    async def stop(self, run_id: str) -> Run:
        return await self.launch.stop(await self._who(run_id), run_id)

    async def run(self, run_id: str) -> Run:
        found = await self.records.get(RUNS, run_id)
        if found is None:
            raise NotFoundError(f"no such run: {run_id}")
        return found

    async def tasks(self, run_id: str) -> Sequence[Task]:
        return await self.launch.tasks(await self._who(run_id), run_id)

    async def _who(self, run_id: str) -> Principal:
        run = await self.run(run_id)
        return _acting_for(run.user or "nexus", run.project)


def _acting_for(user: str, project: str) -> Principal:
    return Principal(PrincipalKind.USER, user, project, Role.MEMBER)


@dataclass(frozen=True)
class ModelsByTrack:
    """The registry, for `deploy.ports.Models`."""

    track: Track

    async def pin(self, project: str, reference: str) -> str:
        name, _, version = reference.removeprefix("model://").partition("@")
        found = await self.track.models.find_version(project, name, version or "latest")
        return f"model://{name}@{found.number}"
