"""The model registry: names, versions 1, 2, 3 ..., and aliases that point at one of them."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from nexus.kernel.clock import Clock
from nexus.kernel.errors import ConflictError, NotFoundError, UsageError
from nexus.kernel.events import Event
from nexus.kernel.identity import Principal, Role
from nexus.kernel.ids import is_name, new_id, to_name
from nexus.kernel.records import Record, Records, Where
from nexus.track.model import ARTIFACTS, MODELS, VERSIONS, Artifact, Model, ModelVersion, check_alias
from nexus.track.service.access import Access
from nexus.track.service.uploads import Uploads

_TRIES = 20


class Models:
    """Models of all projects."""

    def __init__(
        self,
        access: Access,
        records: Records,
        uploads: Uploads,
        clock: Clock,
        entropy: Callable[[int], bytes],
    ) -> None:
        self._access = access
        self._records = records
        self._uploads = uploads
        self._clock = clock
        self._entropy = entropy

    # ------------------------------------------------------------------ reading

    async def all(self, principal: Principal, *, limit: int = 200) -> list[Model]:
        """The project's models, newest names first."""
        principal.need(Role.VIEWER)
        return await self._records.find(MODELS, {"project": principal.project}, limit=limit, newest=True)

    async def get(self, principal: Principal, name: str) -> Model:
        """A model by name. Raises NotFoundError."""
        principal.need(Role.VIEWER)
        return await self.find(principal.project, name)

    async def versions(self, principal: Principal, name: str, *, limit: int = 200) -> list[ModelVersion]:
        """A model's versions, newest first. Raises NotFoundError."""
        model = await self.get(principal, name)
        where = {"project": model.project, "model": model.name}
        return await self._records.find(VERSIONS, where, limit=limit, newest=True)

    async def version(self, principal: Principal, name: str, version: str) -> ModelVersion:
        """One version by number, `latest` or alias. Raises NotFoundError."""
        principal.need(Role.VIEWER)
        return await self.find_version(principal.project, name, version)

    async def find(self, project: str, name: str) -> Model:
        """A model of a project. Raises NotFoundError."""
        found = await self._records.find(MODELS, {"project": project, "name": name}, limit=1)
        if not found:
            raise NotFoundError(f"no such model: {name}", hint="`nexus models` lists them.")
        return found[0]

    async def find_version(self, project: str, name: str, version: str) -> ModelVersion:
        """One version of a model of a project. Raises NotFoundError."""
        model = await self.find(project, name)
        where: Where = {"project": project, "model": name, "number": model.number(version)}
        found = await self._records.find(VERSIONS, where, limit=1)
        if not found:
            raise NotFoundError(
                f"no such version: model://{name}@{version}", hint=f"It has the versions 1..{model.latest}."
            )
        return found[0]

    # ------------------------------------------------------------------ changing

    async def register(
        self,
        principal: Principal,
        name: str,
        digest: str,
        *,
        packed: bool = False,
        run: str = "",
        params: dict[str, Any] | None = None,
        metrics: dict[str, float] | None = None,
        meta: dict[str, str] | None = None,
    ) -> ModelVersion:
        """The next version of `name` from an uploaded blob. Raises NotFoundError if the project has no such blob."""
        principal.need(Role.MEMBER)
        if not is_name(name):
            raise UsageError(f"{name[:80]!r} cannot name a model", hint=f"For example: {to_name(name)}.")
        size = await self._uploads.size(principal.project, digest)
        if run:
            run = (await self._access.run(principal, run)).id
        version = ModelVersion(
            id=new_id("ver", self._entropy(8)),
            project=principal.project,
            created=self._clock.now(),
            model=name,
            number=0,
            digest=digest,
            size_b=size,
            packed=packed,
            run=run,
            user=principal.subject,
            params=params or {},
            metrics=finite(metrics or {}),
            meta=meta or {},
        )
        return await self.add(version, actor=principal.subject)

    async def add(self, version: ModelVersion, *, artifact: Artifact | None = None, actor: str) -> ModelVersion:
        """Give `version` the next number of its model and store it, with the artifact it came from, or nothing."""
        for _ in range(_TRIES):
            found = await self._records.find(MODELS, {"project": version.project, "name": version.model}, limit=1)
            model = (
                replace(found[0], latest=found[0].latest + 1)
                if found
                else Model(
                    id=new_id("mdl", self._entropy(8)),
                    project=version.project,
                    created=version.created,
                    name=version.model,
                    latest=1,
                )
            )
            numbered = replace(version, number=model.latest)
            changes: list[tuple[Any, Record]] = [(MODELS, model), (VERSIONS, numbered)]
            if artifact is not None:
                changes.append((ARTIFACTS, artifact))
            data = {"model": model.name, "version": numbered.number, "run": numbered.run}
            event = Event("model.registered", model.id, model.project, version.created, actor, data)
            try:
                await self._records.apply(*changes, events=[event])
            except ConflictError:
                continue
            return replace(numbered, version=1)
        raise ConflictError(f"the model {version.model} changes too fast", hint="Try again.")

    async def set_alias(self, principal: Principal, name: str, alias: str, number: int) -> Model:
        """Point an alias such as `production` at a version. Raises NotFoundError, UsageError."""
        principal.need(Role.MEMBER)
        await self.find_version(principal.project, name, str(number))
        check_alias(alias)
        return await self._change_aliases(principal, name, {alias: number})

    async def drop_alias(self, principal: Principal, name: str, alias: str) -> Model:
        """Forget an alias. Raises NotFoundError."""
        principal.need(Role.MEMBER)
        return await self._change_aliases(principal, name, {alias: None})

    async def _change_aliases(self, principal: Principal, name: str, change: dict[str, int | None]) -> Model:
        for _ in range(_TRIES):
            model = await self.find(principal.project, name)
            wanted: dict[str, int | None] = {**model.aliases, **change}
            model = replace(model, aliases={alias: number for alias, number in wanted.items() if number is not None})
            data = {"model": name, "aliases": model.aliases}
            event = Event("model.aliased", model.id, model.project, self._clock.now(), principal.subject, data)
            try:
                await self._records.apply((MODELS, model), events=[event])
            except ConflictError:
                continue
            return replace(model, version=model.version + 1)
        raise ConflictError(f"the model {name} changes too fast", hint="Try again.")


def finite(metrics: dict[str, float]) -> dict[str, float]:
    """Without NaN and infinities, which JSON cannot keep."""
    return {key: value for key, value in metrics.items() if math.isfinite(value)}
