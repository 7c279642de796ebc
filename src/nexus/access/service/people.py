"""Projects, users, and who may do what where.

Owners manage users and projects; a project's admins manage who is in it. Whatever is taken away counts at once in this
process, and within two seconds in any other (`Access` remembers no longer).
"""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import replace

from nexus.access.core.passwords import SALT_B, check_password, hash_password, is_password
from nexus.access.model import (
    DEFAULT_PROJECT,
    MEMBERSHIPS,
    OWNER,
    PROJECTS,
    SECRETS,
    TOKENS,
    USERS,
    Member,
    Membership,
    NewToken,
    NewUser,
    Project,
    ProjectView,
    Purpose,
    Token,
    User,
    UserView,
)
from nexus.access.ports import Entropy, InUse
from nexus.access.service.tokens import SYSTEM, Access, membership_id
from nexus.access.service.trail import event
from nexus.kernel.clock import Clock
from nexus.kernel.errors import ConflictError, DeniedError, NotFoundError, UsageError
from nexus.kernel.identity import Principal, PrincipalKind, Role
from nexus.kernel.ids import is_name
from nexus.kernel.records import Drop, Records

_EVERYBODY = 100_000
_NAME_HINT = "Use lower case letters, digits, and . _ - ; 63 at most."
_AT_ONCE = 2  # passwords are checked: each takes 32 MiB


class People:
    """Use cases around projects and users. `in_use` says what still works in a project."""

    def __init__(self, records: Records, clock: Clock, entropy: Entropy, access: Access, in_use: InUse) -> None:
        self._records = records
        self._clock = clock
        self._entropy = entropy
        self._access = access
        self._in_use = in_use
        self._checking = asyncio.Semaphore(_AT_ONCE)

    async def found(self) -> None:
        """See to it that there is a first project, and an owner. Tokens of before there were users become theirs."""
        now = self._clock.now()
        if await self._records.get(PROJECTS, DEFAULT_PROJECT) is None:
            first = Project(id=DEFAULT_PROJECT, project=DEFAULT_PROJECT, created=now)
            made = event("project.created", DEFAULT_PROJECT, DEFAULT_PROJECT, now, SYSTEM)
            with contextlib.suppress(ConflictError):  # another server process has just done it
                await self._records.apply((PROJECTS, first), events=[made])
        if not await self._records.find(USERS, limit=1):
            owner = User(id=OWNER, project="", created=now, owner=True)
            added = event("user.added", OWNER, DEFAULT_PROJECT, now, SYSTEM, owner=True)
            with contextlib.suppress(ConflictError):
                await self._records.apply((USERS, owner), events=[added])
            await self._adopt()

    async def an_owner(self) -> str:
        """The owner whom this machine's own command line is: the first one, if they are still there."""
        owners = [one for one in await self._records.find(USERS, limit=_EVERYBODY) if one.owner]
        return next((one.id for one in owners if one.id == OWNER), owners[0].id)

    async def _adopt(self) -> None:
        held = await self._records.find(TOKENS, {"purpose": [Purpose.USER, Purpose.SESSION]}, limit=_EVERYBODY)
        for token in held:
            if not token.user and not token.revoked:
                roams = token.subject == OWNER
                await self._records.apply((TOKENS, replace(token, user=OWNER, roams=roams)))
        self._access.forget()

    # ------------------------------------------------------------------ projects

    async def projects(self, principal: Principal) -> list[ProjectView]:
        """Those that the asker's user is in, by name; all of them for an owner."""
        principal.need_person()
        roles = await self._roles(principal)
        found = [one for one in await self._records.find(PROJECTS, limit=_EVERYBODY) if one.removed is None]
        seen = [one for one in found if principal.owner or one.id in roles]
        views = [
            ProjectView(name=one.id, role=Role.ADMIN if principal.owner else roles[one.id], created=one.created)
            for one in seen
        ]
        return sorted(views, key=lambda one: one.name)

    async def _roles(self, principal: Principal) -> dict[str, Role]:
        token = await self._records.get(TOKENS, principal.token) if principal.token else None
        if token is None or not token.roams:
            return {principal.project: principal.role}
        held = await self._records.find(MEMBERSHIPS, {"user": token.user}, limit=_EVERYBODY)
        return {one.project: one.role for one in held}

    async def create_project(self, principal: Principal, name: str) -> ProjectView:
        """A new, empty project. Raises ForbiddenError, UsageError, ConflictError."""
        principal.need_owner()
        if not is_name(name):
            raise UsageError(f"{name!r} cannot name a project", hint=_NAME_HINT)
        there = await self._records.get(PROJECTS, name)
        if there is not None:
            was = "was removed, and its history is kept under this name" if there.removed else "is there already"
            raise ConflictError(f"the project {name} {was}", hint="Choose another name.")
        now = self._clock.now()
        project = Project(id=name, project=name, created=now)
        await self._records.apply((PROJECTS, project), events=[event("project.created", name, name, now, principal)])
        return ProjectView(name=name, role=Role.ADMIN, created=now)

    async def remove_project(self, principal: Principal, name: str) -> ProjectView:
        """End a project in which nothing works any more: nobody gets in, its secrets are gone, its history stays.

        Raises ForbiddenError, NotFoundError, ConflictError while it is in use.
        """
        principal.need_owner()
        project = await self._project(name)
        if name == DEFAULT_PROJECT:
            raise ConflictError("the project default stays: this machine's own agent is in it")
        if used := await self._in_use(name):
            raise ConflictError(
                f"the project {name} is in use: it has {used}",
                hint=f"Stop, delete and remove these first: nexus --project {name} runs, endpoints, nodes.",
            )
        now = self._clock.now()
        members = await self._records.find(MEMBERSHIPS, {"project": name}, limit=_EVERYBODY)
        secrets = await self._records.find(SECRETS, {"project": name}, limit=_EVERYBODY)
        tokens = await self._live_tokens({"project": name})
        await self._records.apply(
            (PROJECTS, replace(project, removed=now)),
            *(Drop(MEMBERSHIPS, one) for one in members),
            *(Drop(SECRETS, one) for one in secrets),
            *((TOKENS, replace(one, revoked=True)) for one in tokens if not one.roams),
            events=[event("project.removed", name, name, now, principal)],
        )
        self._access.forget()
        return ProjectView(name=name, role=Role.ADMIN, created=project.created)

    async def members(self, principal: Principal) -> list[Member]:
        """Who is in the asker's project, and the owners, who are in every one."""
        principal.need_person()
        held = await self._records.find(MEMBERSHIPS, {"project": principal.project}, limit=_EVERYBODY)
        owners = [user.id for user in await self._records.find(USERS, limit=_EVERYBODY) if user.owner]
        found = [Member(user=one.user, role=one.role, owner=False) for one in held if one.user not in owners]
        return sorted([*found, *(Member(user=one, role=Role.ADMIN, owner=True) for one in owners)], key=_by_user)

    async def _project(self, name: str) -> Project:
        found = await self._records.get(PROJECTS, name)
        if found is None or found.removed is not None:
            raise NotFoundError(f"no such project: {name}", hint="nexus project list shows them.")
        return found

    # ------------------------------------------------------------------ users

    async def users(self, principal: Principal) -> list[UserView]:
        """Everybody, by name."""
        principal.need_owner()
        held = await self._records.find(MEMBERSHIPS, limit=_EVERYBODY)
        found = await self._records.find(USERS, limit=_EVERYBODY)
        return sorted((_user_view(user, held) for user in found), key=lambda one: one.name)

    async def add_user(self, principal: Principal, name: str, role: Role | None, *, owner: bool = False) -> NewUser:
        """A new user, with a role in the asker's project, and the token with which they begin.

        Raises ForbiddenError, UsageError, ConflictError.
        """
        principal.need_owner()
        if not is_name(name):
            raise UsageError(f"{name!r} cannot name a user", hint=_NAME_HINT)
        if await self._records.get(USERS, name) is not None:
            raise ConflictError(f"there is a user {name} already", hint=f"nexus user role {name} ROLE sets their role.")
        now = self._clock.now()
        user = User(id=name, project="", created=now, owner=owner)
        said = event("user.added", name, principal.project, now, principal, role=role, owner=owner)
        memberships = [] if role is None else [_membership(principal.project, name, role, now)]
        await self._records.apply((USERS, user), *((MEMBERSHIPS, one) for one in memberships), events=[said])
        token = await self.login_token(name, principal.project, by=principal)
        return NewUser(user=_user_view(user, memberships), token=token)

    async def remove_user(self, principal: Principal, name: str) -> UserView:
        """Take everything from a user: their tokens, sessions and roles. Raises NotFoundError, ConflictError."""
        principal.need_owner()
        user = await self._user(name)
        if user.owner:
            await self._need_another_owner(name)
        held = await self._records.find(MEMBERSHIPS, {"user": name}, limit=_EVERYBODY)
        tokens = await self._live_tokens({"user": name})
        now = self._clock.now()
        await self._records.apply(
            Drop(USERS, user),
            *(Drop(MEMBERSHIPS, one) for one in held),
            *((TOKENS, replace(one, revoked=True)) for one in tokens),
            events=[event("user.removed", name, principal.project, now, principal)],
        )
        self._access.forget()
        return _user_view(user, [])

    async def set_role(self, principal: Principal, name: str, role: Role | None) -> Member | None:
        """What a user may do in the asker's project; None: nothing any more. Raises NotFoundError, ForbiddenError."""
        principal.need_person(Role.ADMIN)
        user = await self._user(name)
        now = self._clock.now()
        there = await self._records.get(MEMBERSHIPS, membership_id(principal.project, name))
        said = event("user.role", name, principal.project, now, principal, role=role or "none")
        if role is not None:
            wanted = replace(there, role=role) if there else _membership(principal.project, name, role, now)
            await self._records.apply((MEMBERSHIPS, wanted), events=[said])
        elif there is not None:
            await self._records.apply(Drop(MEMBERSHIPS, there), events=[said])
        self._access.forget()
        return Member(user=name, role=role, owner=user.owner) if role is not None else None

    async def _need_another_owner(self, name: str) -> None:
        others = [one for one in await self._records.find(USERS, limit=_EVERYBODY) if one.owner and one.id != name]
        if not others:
            raise ConflictError(
                f"{name} is the last owner of this server", hint="Make another first: nexus user add NAME --owner"
            )

    async def _user(self, name: str) -> User:
        found = await self._records.get(USERS, name)
        if found is None:
            raise NotFoundError(f"no such user: {name}", hint="nexus user add NAME makes one.")
        return found

    async def _live_tokens(self, where: dict[str, str]) -> list[Token]:
        held = await self._records.find(TOKENS, where, limit=_EVERYBODY)
        return [one for one in held if not one.revoked]

    # ------------------------------------------------------------------ passwords

    async def set_password(self, principal: Principal, name: str, password: str) -> UserView:
        """One's own, or (an owner) anybody's; browsers must log in again. Raises ForbiddenError, UsageError."""
        principal.need_person()
        token = await self._records.get(TOKENS, principal.token) if principal.token else None
        if token is None or token.user != name or not token.roams:
            principal.need_owner()
        check_password(password)
        user = await self._user(name)
        salt = self._entropy(SALT_B)
        async with self._checking:
            kept = await asyncio.to_thread(hash_password, password, salt)
        sessions = [one for one in await self._live_tokens({"user": name}) if one.purpose is Purpose.SESSION]
        now = self._clock.now()
        await self._records.apply(
            (USERS, replace(user, password=kept)),
            *((TOKENS, replace(one, revoked=True)) for one in sessions if one.id != principal.token),
            events=[event("user.password", name, principal.project, now, principal)],
        )
        self._access.forget()
        return _user_view(replace(user, password=kept), [])

    async def log_in(self, name: str, password: str, *, address: str = "", browser: bool = False) -> NewToken:
        """A token (or a browser's session) for a password. Raises DeniedError, which does not say which was wrong."""
        user = await self._records.get(USERS, name)
        async with self._checking:
            is_right = await asyncio.to_thread(is_password, password, user.password if user else "")
        project = await self._home(user) if user is not None and is_right else None
        who = Principal(PrincipalKind.USER, name[:64], project or "", address=address)
        if user is None or not is_right or project is None:
            now = self._clock.now()
            denied = event("login.denied", user.id if user else "", DEFAULT_PROJECT, now, replace(who, subject="nexus"))
            await self._records.apply(events=[denied])
            raise DeniedError(
                "this name and password do not fit", hint="An owner sets a new one: nexus user password NAME"
            )
        return await self.login_token(name, project, by=who, browser=browser)

    async def _home(self, user: User) -> str | None:
        """The project in which a user begins: the first one, if they are in it."""
        if user.owner:
            return DEFAULT_PROJECT
        held = await self._records.find(MEMBERSHIPS, {"user": user.id}, limit=_EVERYBODY)
        names = [one.project for one in held]
        return DEFAULT_PROJECT if DEFAULT_PROJECT in names else min(names, default=None)

    async def login_token(self, name: str, project: str, *, by: Principal, browser: bool = False) -> NewToken:
        """A token that may do whatever its user may, in each of their projects."""
        return await self._access.create(
            purpose=Purpose.SESSION if browser else Purpose.USER,
            subject=name,
            project=project,
            role=Role.ADMIN,
            name="login",
            user=name,
            roams=True,
            by=by,
        )


def _membership(project: str, user: str, role: Role, now: float) -> Membership:
    return Membership(id=membership_id(project, user), project=project, created=now, user=user, role=role)


def _user_view(user: User, held: list[Membership]) -> UserView:
    roles = {one.project: one.role for one in held if one.user == user.id}
    return UserView(name=user.id, owner=user.owner, has_password=bool(user.password), roles=roles, created=user.created)


def _by_user(member: Member) -> str:
    return member.user
