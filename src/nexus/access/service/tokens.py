"""Who may do what: make, prove and revoke tokens.

A secret is `nx_<purpose letter>_<43 characters of base64>`, 256 random bits: a fast hash is enough to store it. A run's
token is not stored at all: it is signed with the server's key, so that the server can say it again to an agent that
asks again.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import math
from collections.abc import Awaitable, Callable
from dataclasses import replace

from nexus.access.model import (
    LIFETIME_S,
    MEMBERSHIPS,
    ONCE,
    PROJECTS,
    TOKENS,
    USERS,
    NewToken,
    Purpose,
    Token,
    TokenView,
)
from nexus.access.ports import Entropy
from nexus.access.service.trail import event
from nexus.kernel.clock import Clock
from nexus.kernel.errors import ConflictError, DeniedError, ForbiddenError, NotFoundError, UsageError
from nexus.kernel.events import Event
from nexus.kernel.identity import Principal, PrincipalKind, Role, lesser
from nexus.kernel.records import Records

_CACHE_S = 2.0  # a revoked token works at most this much longer on another server process
_CACHE_MAX = 10_000
_LONGEST_NAME = 100
_ATTEMPTS = 20
SYSTEM = Principal(PrincipalKind.USER, "nexus", "", Role.ADMIN)  # who acts where nobody asked


def membership_id(project: str, user: str) -> str:
    """Where a user's role in a project is kept."""
    return f"{project}/{user}"


class Access:
    """Tokens over records. `key` (32 bytes) signs the runs' tokens, which work for as long as `is_live` says."""

    def __init__(
        self,
        records: Records,
        clock: Clock,
        entropy: Entropy,
        key: bytes,
        *,
        is_live: Callable[[str], Awaitable[bool]],
    ) -> None:
        self._records = records
        self._clock = clock
        self._entropy = entropy
        self._key = key
        self._is_live = is_live
        self._cache: dict[tuple[str, str], tuple[float, Principal | None]] = {}

    # ------------------------------------------------------------------ proving

    async def authenticate(self, secret: str, project: str = "") -> Principal | None:
        """Whose secret it is; None if it is unknown, revoked, expired, of an ended run, or works once only.

        `project` is the one to act in, where that is not the token's own. Raises NotFoundError, ForbiddenError for one
        where this token may do nothing.
        """
        now = self._clock.monotonic()
        key = (hashlib.sha256(secret.encode()).hexdigest(), project)
        cache = self._cache  # a revocation meanwhile puts another in its place, which must not learn what was before it
        cached = cache.get(key)
        if cached and cached[0] > now:
            return cached[1]
        if secret.startswith("nx_r_"):
            principal = await self._run_principal(secret)
            if principal is not None and project not in {"", principal.project}:
                raise ForbiddenError(f"a run's token works in its own project only, {principal.project}")
        else:
            principal = await self._stored_principal(secret, project)
        if len(cache) >= _CACHE_MAX:
            cache.clear()
        cache[key] = (now + _CACHE_S, principal)
        return principal

    def forget(self) -> None:
        """What was proven before does not count any more."""
        self._cache = {}

    async def _stored_principal(self, secret: str, project: str) -> Principal | None:
        token = await self._find(secret)
        if token is None or token.purpose in ONCE:
            return None
        kind = PrincipalKind.NODE if token.purpose is Purpose.NODE else PrincipalKind.USER
        wanted = project or token.project
        if wanted != token.project and not token.roams:
            raise ForbiddenError(
                f"this token works in the project {token.project} only",
                hint="Log in as yourself to change between projects: nexus login URL --user NAME",
            )
        if not token.user:
            return Principal(kind, token.subject, token.project, token.role, token=token.id)
        found = await self._role(token.user, wanted)
        if found is None:
            if project:
                raise NotFoundError(
                    f"no such project: {project}",
                    hint="nexus project list shows yours; nexus project use NAME changes to one.",
                )
            return None
        role, is_owner = found
        is_owner = is_owner and token.roams and token.role is Role.ADMIN
        return Principal(kind, token.subject, wanted, lesser(role, token.role), owner=is_owner, token=token.id)

    async def _role(self, user_name: str, project_name: str) -> tuple[Role, bool] | None:
        """What a user may do in a project, and whether they own the server; None without such a user or project."""
        user = await self._records.get(USERS, user_name)
        project = await self._records.get(PROJECTS, project_name)
        if user is None or project is None or project.removed is not None:
            return None
        if user.owner:
            return Role.ADMIN, True
        membership = await self._records.get(MEMBERSHIPS, membership_id(project_name, user_name))
        return (membership.role, False) if membership is not None else None

    async def _find(self, secret: str) -> Token | None:
        digest = hashlib.sha256(secret.encode()).hexdigest()
        token = await self._records.get(TOKENS, digest[:32])
        if token is None or not hmac.compare_digest(token.digest, digest):
            return None
        expired = token.expires is not None and token.expires <= self._clock.now()
        return None if token.revoked or token.used or expired else token

    async def redeem(self, secret: str, purpose: Purpose) -> Token:
        """Use a token that works once; of two who try at the same moment, one succeeds. Raises DeniedError."""
        token = await self._find(secret)
        if token is None or token.purpose is not purpose or not await self._may_still(token):
            raise DeniedError(
                f"this {purpose} token is not known, was used, or has expired",
                hint="Make a new one: " + ("nexus open" if purpose is Purpose.LOGIN else "nexus token join"),
            )
        now = self._clock.now()
        used = event("token.used", token.id, token.project, now, SYSTEM, purpose=purpose, subject=token.subject)
        try:
            await self._records.apply((TOKENS, replace(token, used=True)), events=[used])
        except ConflictError as error:
            raise DeniedError(f"this {purpose} token was just used", hint="Make a new one.") from error
        return token

    async def _may_still(self, token: Token) -> bool:
        """Whether who made it could make it now."""
        if not token.user:
            return True
        needed = Role.MEMBER if token.purpose is Purpose.JOIN else Role.VIEWER
        found = await self._role(token.user, token.project)
        return found is not None and lesser(found[0], needed) is needed

    # ------------------------------------------------------------------ making

    async def create(
        self,
        *,
        purpose: Purpose,
        subject: str,
        project: str,
        role: Role = Role.VIEWER,
        name: str = "",
        lifetime_s: float | None = None,
        user: str = "",
        roams: bool = False,
        until: float | None = None,
        by: Principal = SYSTEM,
    ) -> NewToken:
        """A new token; its secret is in the answer and nowhere else. Raises DeniedError if there is no such `user`."""
        raw = base64.urlsafe_b64encode(self._entropy(32)).decode().rstrip("=")
        secret = f"nx_{purpose[0]}_{raw}"
        digest = hashlib.sha256(secret.encode()).hexdigest()
        now = self._clock.now()
        ends = [now + life for life in (lifetime_s if lifetime_s is not None else LIFETIME_S.get(purpose),) if life]
        token = Token(
            id=digest[:32],
            project=project,
            created=now,
            purpose=purpose,
            subject=subject,
            role=role,
            name=name,
            digest=digest,
            expires=min([*ends, until] if until is not None and purpose is not Purpose.LOGIN else ends, default=None),
            user=user,
            roams=roams,
            until=until,
        )
        said = {"purpose": purpose, "subject": subject, "role": role, "name": name}
        made = event("token.created", token.id, project, now, by, **said)
        await self._keep(token, made)
        return NewToken(secret=secret, token=view(token))

    async def _keep(self, token: Token, made: Event) -> None:
        """With its user's record, unchanged but guarded: one who is removed at this moment leaves no token behind."""
        for _ in range(_ATTEMPTS):
            holder = await self._records.get(USERS, token.user) if token.user else None
            if token.user and holder is None:
                raise DeniedError(f"there is no user {token.user}", hint="nexus user list shows who there is.")
            guard = [(USERS, holder)] if holder is not None else []
            try:
                return await self._records.apply((TOKENS, token), *guard, events=[made])
            except ConflictError:
                continue  # the same user makes another token
        raise ConflictError(f"{token.user} is changed all the time", hint="Try again.")

    async def create_for(self, principal: Principal, name: str, role: Role, lifetime_s: float | None) -> NewToken:
        """A token of the asker's own, for a program: in this project only, with at most their own role, and ending with
        what they asked with. Raises ForbiddenError, UsageError.
        """
        principal.need_person(role)
        if not 0 < len(name.strip()) <= _LONGEST_NAME:
            words = f"a token needs a name of at most {_LONGEST_NAME} characters"
            raise UsageError(words, hint="For example: nexus token create laptop")
        if lifetime_s is not None and not 0 < lifetime_s < math.inf:
            raise UsageError(f"{lifetime_s} s is no lifetime", hint="Such as --expires 30d; never when left out.")
        parent = await self._parent(principal)
        return await self.create(
            purpose=Purpose.USER,
            subject=parent.user if parent and parent.user else name.strip(),
            project=principal.project,
            role=role,
            name=name.strip(),
            lifetime_s=lifetime_s,
            user=parent.user if parent else "",
            until=_bound(parent),
            by=principal,
        )

    async def _parent(self, principal: Principal) -> Token | None:
        """The token that the asker asks with."""
        return await self._records.get(TOKENS, principal.token) if principal.token else None

    async def join_token(self, principal: Principal, lifetime_s: float | None = None) -> NewToken:
        """A token with which one machine may join the asker's project."""
        principal.need_person(Role.MEMBER)
        parent = await self._parent(principal)
        return await self.create(
            purpose=Purpose.JOIN,
            subject=principal.subject,
            project=principal.project,
            role=Role.MEMBER,
            lifetime_s=lifetime_s,
            user=parent.user if parent else "",
            by=principal,
        )

    async def node_token(self, node: str, project: str) -> str:
        """The token of a machine that has joined; earlier ones of this node stop working."""
        await self.revoke_subject(Purpose.NODE, node)
        return (await self.create(purpose=Purpose.NODE, subject=node, project=project)).secret

    async def login_code(self, principal: Principal) -> NewToken:
        """A code that becomes one browser session with the asker's own role. Raises ForbiddenError."""
        principal.need_person()
        parent = await self._parent(principal)
        return await self.create(
            purpose=Purpose.LOGIN,
            subject=principal.subject,
            project=principal.project,
            role=parent.role if parent else principal.role,
            user=parent.user if parent else "",
            roams=parent.roams if parent else False,
            until=_bound(parent),
            by=principal,
        )

    async def exchange(self, code: str, address: str = "") -> NewToken:
        """A browser session for a login code, or for a person's token. Raises DeniedError."""
        token = await self._find(code)
        if token is None or token.purpose is not Purpose.USER:
            token = await self.redeem(code, Purpose.LOGIN)
        return await self.create(
            purpose=Purpose.SESSION,
            subject=token.subject,
            project=token.project,
            role=token.role,
            user=token.user,
            roams=token.roams,
            until=_bound(token),
            by=Principal(PrincipalKind.USER, token.subject, token.project, token.role, address=address),
        )

    async def end_session(self, secret: str) -> None:
        """Log a browser out; nothing happens if it was not logged in."""
        token = await self._find(secret)
        if token is not None and token.purpose is Purpose.SESSION:
            who = Principal(PrincipalKind.USER, token.subject, token.project)
            ended = event("token.revoked", token.id, token.project, self._clock.now(), who)
            await self._records.apply((TOKENS, replace(token, revoked=True)), events=[ended])
            self.forget()

    # ------------------------------------------------------------------ runs

    def run_token(self, run: str, project: str, task: str = "") -> str:
        """The token of a run's task, until the run ends: it may read the project and write what is the run's."""
        text = f"{run}-{task}.{project}" if task else f"{run}.{project}"
        return f"nx_r_{text}.{self._sign(text)}"

    def run_secret(self, run: str, purpose: str) -> bytes:
        """32 bytes that belong to a run and a purpose, the same whenever they are asked for. They leave no server."""
        return hmac.new(self._key, f"run-secret\0{purpose}\0{run}".encode(), hashlib.sha256).digest()

    async def _run_principal(self, secret: str) -> Principal | None:
        text, _, signature = secret.removeprefix("nx_r_").rpartition(".")
        run, _, project = text.partition(".")
        run, _, task = run.partition("-")
        if not hmac.compare_digest(signature.encode(), self._sign(text).encode()) or not await self._is_live(run):
            return None
        return Principal(PrincipalKind.RUN, run, project, Role.VIEWER, task=task)

    def _sign(self, text: str) -> str:
        mac = hmac.new(self._key, b"run-token\0" + text.encode(), hashlib.sha256).digest()
        return base64.urlsafe_b64encode(mac).decode().rstrip("=")

    # ------------------------------------------------------------------ seeing and revoking

    async def tokens(self, principal: Principal) -> list[TokenView]:
        """The project's tokens of people and programs, newest first; without the role admin, one's own only."""
        principal.need_person()
        found = await self._records.find(
            TOKENS, {"project": principal.project, "purpose": [Purpose.USER, Purpose.SESSION]}, newest=True
        )
        return [view(token) for token in found if _may_handle(principal, token)]

    async def revoke(self, principal: Principal, token_id: str) -> TokenView:
        """Make a token useless, now; without the role admin, one's own only. Raises NotFoundError."""
        principal.need_person()
        token = await self._records.get(TOKENS, token_id)
        if token is None or token.project != principal.project or not _may_handle(principal, token):
            raise NotFoundError(f"no token {token_id}", hint="nexus token list shows them.")
        revoked = replace(token, revoked=True)
        said = event("token.revoked", token.id, token.project, self._clock.now(), principal, subject=token.subject)
        await self._records.apply((TOKENS, revoked), events=[said])
        self.forget()
        return view(revoked)

    async def revoke_subject(self, purpose: Purpose, subject: str) -> None:
        """Make every token of `purpose` that `subject` has useless."""
        held = await self._records.find(TOKENS, {"purpose": purpose, "subject": subject})
        live = [token for token in held if not token.revoked]
        if live:
            now = self._clock.now()
            said = [event("token.revoked", token.id, token.project, now, SYSTEM, subject=subject) for token in live]
            await self._records.apply(*((TOKENS, replace(token, revoked=True)) for token in live), events=said)
        self.forget()


def _bound(parent: Token | None) -> float | None:
    """When what is made with a token must end: not after a token that a program was given for a time."""
    if parent is None:
        return None
    return parent.expires if parent.purpose is Purpose.USER else parent.until


def _may_handle(principal: Principal, token: Token) -> bool:
    return principal.role is Role.ADMIN or (token.user != "" and token.user == principal.subject)


def view(token: Token) -> TokenView:
    """A token as people may see it."""
    return TokenView(
        id=token.id,
        purpose=token.purpose,
        subject=token.subject,
        role=token.role,
        name=token.name,
        created=token.created,
        expires=token.expires,
        revoked=token.revoked,
    )
