"""What a run's tasks are given beside their plan: inputs by digest, secrets by value, the run's own token."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from nexus.kernel.errors import NexusError, NotFoundError, UsageError
from nexus.launch.model import Run, RunPlan
from nexus.launch.ports import Mint, Secrets, Tracker


class Inputs:
    """Looked up once a run and kept in memory, so that every task of an attempt gets the same."""

    def __init__(self, tracker: Tracker, mint: Mint, secrets: Secrets | None) -> None:
        self._tracker = tracker
        self._mint = mint
        self._secrets = secrets
        self._digests: dict[str, dict[str, str]] = {}
        self._values: dict[str, dict[str, str]] = {}
        self._tokens: dict[str, dict[str, str]] = {}

    async def digests(self, run: Run) -> dict[str, str]:
        """What the run's `inputs` name, by digest. Raises NotFoundError, UsageError."""
        if run.id not in self._digests:
            self._digests[run.id] = await self.resolve(run.project, run.plan)
        return self._digests[run.id]

    async def resolve(self, project: str, plan: RunPlan) -> dict[str, str]:
        """`digests`, not kept. Raises NotFoundError, UsageError."""
        return {name: await self._tracker.resolve(project, reference) for name, reference in plan.inputs.items()}

    async def secrets(self, run: Run) -> dict[str, str]:
        """The values of the run's `secrets`. Raises NotFoundError, UsageError."""
        if run.id not in self._values:
            names = run.plan.secrets
            self._values[run.id] = await self._keeper(names).reveal(run.project, names, run=run.id) if names else {}
        return self._values[run.id]

    async def check_secrets(self, project: str, names: Sequence[str]) -> None:
        """Refuse names that are not set. Raises NotFoundError, UsageError."""
        if names:
            await self._keeper(names).check(project, names)

    def _keeper(self, names: Sequence[str]) -> Secrets:
        if self._secrets is None:
            raise UsageError(f"this server keeps no secrets, and the job needs {', '.join(names)}", hint="Use `env`.")
        return self._secrets

    async def token(self, run: Run, task: str) -> str:
        """The run's token for one of its tasks."""
        tokens = self._tokens.setdefault(run.id, {})
        if task not in tokens:
            tokens[task] = await self._mint(run, task)
        return tokens[task]

    async def broken(self, runs: Iterable[Run]) -> dict[str, str]:
        """Why runs that could start now never will: what they name does not exist."""
        found: dict[str, str] = {}
        for run in runs:
            try:
                await self.digests(run)
                await self.secrets(run)
            except (NotFoundError, UsageError) as error:
                found[run.id] = f"its inputs cannot be had: {error.message}"
            except NexusError:
                continue  # the store does not answer now; the next look asks again
        return found

    def forget(self, live: Iterable[str]) -> None:
        """Keep only what belongs to these runs."""
        alive = set(live)
        for run_id in {*self._digests, *self._values, *self._tokens} - alive:
            self._digests.pop(run_id, None)
            self._values.pop(run_id, None)
            self._tokens.pop(run_id, None)
