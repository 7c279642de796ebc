"""The rounds of federated runs, as their servers report them and Studio shows them."""

from __future__ import annotations

from collections.abc import Sequence

from nexus.federate.model import ROUNDS, Round, RunRound
from nexus.federate.ports import FoundRun, Runs, Vouch
from nexus.federate.protocol import Certificate
from nexus.kernel.clock import Clock
from nexus.kernel.errors import ConflictError, ForbiddenError, NotFoundError
from nexus.kernel.events import Event
from nexus.kernel.identity import Principal, PrincipalKind, Role
from nexus.kernel.records import Records

_TRIES = 5
_PAGE = 500


class FederateService:
    """Keeps rounds by run and number; a round is written once and never changes."""

    def __init__(self, records: Records, runs: Runs, clock: Clock, vouch: Vouch | None = None) -> None:
        self._records = records
        self._vouch = vouch
        self._runs = runs
        self._clock = clock

    async def post(self, caller: Principal, run: str, rounds: Sequence[Round]) -> int:
        """Keep those rounds that are not here yet; how many are new. For the run itself, and members of its project.

        `run` is an id or a name. Raises NotFoundError, ForbiddenError.
        """
        found = await self._find(caller, run)
        run, project = found.id, found.project
        if caller.kind is not PrincipalKind.RUN:
            caller.need(Role.MEMBER)
        elif caller.subject != run:
            raise ForbiddenError("a run may post its own rounds only", hint="Use the NEXUS_TOKEN of that run.")
        for last in range(_TRIES, 0, -1):
            known = {record.number for record in await self._records_of(run)}
            fresh = {item.number: item for item in rounds if item.number not in known}
            changes = [(ROUNDS, self._record(run, project, item)) for item in fresh.values()]
            try:
                await self._records.apply(*changes, events=[self._event(run, project, r) for r in fresh.values()])
            except ConflictError:
                if last == 1:
                    raise
                continue  # somebody posted the same rounds at the same time
            return len(changes)
        raise AssertionError("unreachable")

    async def rounds(self, caller: Principal, run: str, *, after: int = 0, limit: int = 1000) -> list[Round]:
        """The rounds of a run, by id or name, above number `after`, in order. Raises NotFoundError."""
        found = await self._find(caller, run)
        rounds = sorted((record.round for record in await self._records_of(found.id)), key=lambda item: item.number)
        return [item for item in rounds if item.number > after][:limit]

    async def certify(self, caller: Principal, run: str, public_key: str) -> Certificate:
        """Say in a certificate which task of the run holds the key. For the tasks of the run themselves.

        What the certificate says is what the control plane knows, and nothing that the task says.
        Raises NotFoundError, ForbiddenError, UsageError.
        """
        found = await self._find(caller, run)
        if caller.kind is not PrincipalKind.RUN or caller.subject != found.id or not caller.task or not self._vouch:
            raise ForbiddenError("only a task of the run has a key certified", hint="Use the NEXUS_TOKEN of that task.")
        place = await self._vouch.place(found.id, caller.task)
        if place is None:
            raise ForbiddenError("this task has ended", hint="Its certificate went with it.")
        from nexus.federate.core.identity import Authority, Holder  # X.509 is 8 MB, and few servers certify

        authority, holder = Authority(self._vouch.secret(found.id)), Holder(*place)
        return Certificate(
            authority=authority.certificate, certificate=authority.certify(public_key, holder), holder=str(holder)
        )

    async def _find(self, caller: Principal, run: str) -> FoundRun:
        found = await self._runs.find(caller.project, run)
        if found is None:
            raise NotFoundError(f"no run {run}", hint="nexus runs lists them.")
        return found

    async def _records_of(self, run: str) -> list[RunRound]:
        found: list[RunRound] = []
        last: RunRound | None = None
        while True:
            page = await self._records.find(ROUNDS, {"run": run}, limit=_PAGE, before=last)
            found += page
            if len(page) < _PAGE:
                return found
            last = page[-1]

    def _record(self, run: str, project: str, item: Round) -> RunRound:
        name = f"{run}.{item.number}"
        return RunRound(id=name, project=project, created=self._clock.now(), run=run, number=item.number, round=item)

    def _event(self, run: str, project: str, item: Round) -> Event:
        data = {"number": item.number, "accepted": len(item.accepted), "metrics": item.metrics}
        return Event(kind="round.closed", subject=run, project=project, at=self._clock.now(), data=data)
