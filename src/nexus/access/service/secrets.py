"""Secrets of a project: people set them, tasks see them, and nobody reads them back."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from nexus.access.model import SECRETS, Envelope, Secret, SecretView
from nexus.access.ports import Vault
from nexus.access.service.tokens import SYSTEM
from nexus.access.service.trail import event
from nexus.kernel.clock import Clock
from nexus.kernel.errors import ConflictError, LimitError, NotFoundError, UsageError
from nexus.kernel.identity import Principal, Role
from nexus.kernel.records import Drop, Records

LARGEST_B = 64 * 1024
MOST = 1000  # of a project
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,99}")
_ATTEMPTS = 20
_ALL = 1_000_000


class Secrets:
    """Implements `launch.ports.Secrets`, and what people do with secrets. Values leave it towards tasks only."""

    def __init__(self, records: Records, clock: Clock, vault: Vault) -> None:
        self._records = records
        self._clock = clock
        self._vault = vault

    # ------------------------------------------------------------------ people

    async def set(self, principal: Principal, name: str, value: str) -> SecretView:
        """Keep a value, in the place of what was there. Raises ForbiddenError, UsageError, LimitError."""
        principal.need_person(Role.MEMBER)
        _check(name, value)
        for _ in range(_ATTEMPTS):
            try:
                return await self._set(principal, name, value)
            except ConflictError:
                continue  # somebody else sets it too: the last one counts
        raise ConflictError(f"the secret {name} is changed all the time", hint="Try again.")

    async def _set(self, principal: Principal, name: str, value: str) -> SecretView:
        project, now = principal.project, self._clock.now()
        there = await self._records.get(SECRETS, _id(project, name))
        if there is None and len(await self._records.find(SECRETS, {"project": project}, limit=MOST)) >= MOST:
            raise LimitError(f"a project keeps {MOST} secrets at most", hint="nexus secret remove NAME makes room.")
        closed = self._vault.seal(value.encode(), _about(project, name))
        secret = Secret(
            id=_id(project, name),
            project=project,
            created=there.created if there else now,
            version=there.version if there else 0,
            name=name,
            key=closed.key,
            wrapped=closed.wrapped,
            sealed=closed.sealed,
            by=principal.subject,
            changed=now,
        )
        said = event("secret.set", secret.id, project, now, principal)
        await self._records.apply((SECRETS, secret), events=[said])
        return _view(secret)

    async def names(self, principal: Principal) -> Sequence[SecretView]:
        """The names, by name; never a value."""
        principal.need_person(Role.MEMBER)
        found = await self._records.find(SECRETS, {"project": principal.project}, limit=MOST)
        return sorted((_view(one) for one in found), key=lambda one: one.name)

    async def remove(self, principal: Principal, name: str) -> SecretView:
        """Forget a value. Runs that have it keep it; the next one that needs it is refused. Raises NotFoundError."""
        principal.need_person(Role.MEMBER)
        there = await self._records.get(SECRETS, _id(principal.project, name))
        if there is None:
            raise NotFoundError(f"no such secret: {name}", hint="nexus secret list shows their names.")
        said = event("secret.removed", there.id, there.project, self._clock.now(), principal)
        await self._records.apply(Drop(SECRETS, there), events=[said])
        return _view(there)

    async def rotate(self, principal: Principal) -> int:
        """Close everything with a new key of the server, and drop the old ones; how many secrets there are.

        May be cut off and called again: what is still closed with an old key opens until every one is done.
        """
        principal.need_owner()
        newest = self._vault.renew()
        count = 0
        for _ in range(_ATTEMPTS):
            held = await self._records.find(SECRETS, limit=_ALL)
            count = len(held)
            if all(one.key == newest for one in held):
                break
            for one in held:
                if one.key != newest:
                    await self._rewrap(one)
        else:
            raise ConflictError("secrets change all the time", hint="Nothing is lost; call it again.")
        self._vault.forget()
        said = event("secret.rotated", newest, principal.project, self._clock.now(), principal, count=count)
        await self._records.apply(events=[said])
        return count

    async def _rewrap(self, secret: Secret) -> None:
        closed = self._vault.rewrap(_envelope(secret), _about(secret.project, secret.name))
        try:
            await self._records.apply((SECRETS, replace(secret, key=closed.key, wrapped=closed.wrapped)))
        except ConflictError:
            return  # it was set or removed meanwhile; the next look sees

    # ------------------------------------------------------------------ tasks

    async def check(self, project: str, names: Sequence[str]) -> None:
        """Refuse what a run could not be given. Raises NotFoundError, which names all that are missing, UsageError."""
        for one in await self._found(project, names):
            self._vault.open(_envelope(one), _about(project, one.name))

    async def reveal(self, project: str, names: Sequence[str], *, run: str) -> dict[str, str]:
        """The values by name, for a run's tasks. Raises NotFoundError, UsageError."""
        found = await self._found(project, names)
        values = {one.name: self._vault.open(_envelope(one), _about(project, one.name)).decode() for one in found}
        if found:
            now = self._clock.now()
            said = [event("secret.read", one.id, project, now, SYSTEM, run=run) for one in found]
            await self._records.apply(events=said)
        return values

    async def _found(self, project: str, names: Sequence[str]) -> list[Secret]:
        if not names:
            return []
        held = await self._records.find(SECRETS, {"project": project, "name": sorted(set(names))}, limit=MOST)
        missing = sorted(set(names) - {one.name for one in held})
        if missing:
            raise NotFoundError(
                f"not set among the secrets of the project {project}: {', '.join(missing)}",
                hint=f"Set it: nexus secret set {missing[0]}",
            )
        return held


def _check(name: str, value: str) -> None:
    if not _NAME.fullmatch(name) or name.upper().startswith("NEXUS_"):
        raise UsageError(
            f"{name[:100]!r} cannot name a secret: it becomes the task's variable of that name",
            hint="Letters, digits and _, such as HF_TOKEN; names with NEXUS_ are ours.",
        )
    if not value:
        raise UsageError("an empty secret hides nothing", hint=f"To forget it: nexus secret remove {name}")
    if "\0" in value:
        raise UsageError("a variable cannot hold a NUL character", hint="Encode what is binary, such as with base64.")
    if len(value.encode()) > LARGEST_B:
        raise LimitError(f"a secret has at most {LARGEST_B} bytes", hint="Keep the file as an artifact, its key here.")


def _id(project: str, name: str) -> str:
    return f"{project}/{name}"


def _about(project: str, name: str) -> str:
    return f"{project}|{name}"


def _envelope(secret: Secret) -> Envelope:
    return Envelope(secret.key, secret.wrapped, secret.sealed)


def _view(secret: Secret) -> SecretView:
    return SecretView(name=secret.name, by=secret.by, changed=secret.changed)
