"""What a project may hold, and what it does hold; set by the server's owners."""

from __future__ import annotations

from dataclasses import replace

from nexus.kernel.errors import UsageError
from nexus.kernel.events import Event
from nexus.kernel.identity import Principal, Role
from nexus.launch.core.queue.limits import spent_this_month
from nexus.launch.core.queue.shares import Held
from nexus.launch.core.queue.views import LIMITS, QuotaRequest, QuotaView
from nexus.launch.model import QUOTAS, TASK_LIFE, TASKS, USAGES, Quota
from nexus.launch.service.context import EVERYTHING, Context


class Quotas:
    """Use cases around quotas."""

    def __init__(self, context: Context) -> None:
        self._context = context

    async def show(self, principal: Principal) -> QuotaView:
        """The caller's project's."""
        principal.need(Role.VIEWER)
        context, mine = self._context, {"project": principal.project}
        now = context.clock.now()
        live = {**mine, "state": [str(state) for state in TASK_LIFE.live]}
        held = Held()
        for task in await context.records.find(TASKS, live, limit=EVERYTHING):
            held.add(task, "")
        tally = held.project(principal.project)
        usages = await context.records.find(USAGES, mine, limit=1)
        spent = spent_this_month(usages[0] if usages else None, now) + tally.accrued(now)
        return QuotaView(quota=await self._quota(principal.project), held=tally.amount, tasks=tally.tasks, spent=spent)

    async def change(self, principal: Principal, wanted: QuotaRequest) -> Quota:
        """Set limits of the caller's project. Raises ForbiddenError unless an owner asks, UsageError."""
        principal.need_owner()
        _check(wanted)

        async def step() -> Quota:
            old = await self._quota(principal.project)
            named = {name: value for name in LIMITS if (value := getattr(wanted, name)) is not None}
            lifted = dict.fromkeys(wanted.lift)
            quota = replace(old, weight=wanted.weight or old.weight, **{**named, **lifted})
            if quota == old and old.version:
                return old
            now = self._context.clock.now()
            said = {name: getattr(quota, name) for name in ("weight", *LIMITS)}
            event = Event("quota.changed", quota.id, quota.project, now, principal.subject, said)
            await self._context.commit((QUOTAS, quota), events=[event])
            return replace(quota, version=quota.version + 1)

        return await self._context.retry(step)

    async def _quota(self, project: str) -> Quota:
        found = await self._context.records.find(QUOTAS, {"project": project}, limit=1)
        now = self._context.clock.now()
        return found[0] if found else Quota(id=f"quota_{project}", project=project, created=now)


def _check(wanted: QuotaRequest) -> None:
    if wanted.weight is not None and not 0 < wanted.weight <= 1000:
        raise UsageError(f"a weight is above 0 and at most 1000, not {wanted.weight:g}", hint="1 is the usual weight.")
    for name in LIMITS:
        value = getattr(wanted, name)
        if value is not None and value < 0:
            raise UsageError(
                f"{name} cannot be negative", hint=f"To take a limit away: nexus quota set --no-limit {name}"
            )
    unknown = [name for name in wanted.lift if name not in LIMITS]
    if unknown:
        raise UsageError(f"there is no limit {unknown[0]!r}", hint=f"There are: {', '.join(LIMITS)}.")
