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

from nexus.access.model import LIFETIME_S, ONCE, TOKENS, NewToken, Purpose, Token, TokenView
from nexus.kernel.clock import Clock
from nexus.kernel.errors import ConflictError, DeniedError, ForbiddenError, NotFoundError, UsageError
from nexus.kernel.events import Event
from nexus.kernel.identity import Principal, PrincipalKind, Role
from nexus.kernel.records import Records

_CACHE_S = 2.0  # a revoked token works at most this much longer on another server process
_CACHE_MAX = 10_000
_LONGEST_NAME = 100


class Access:
    """Tokens over records. `key` (32 bytes) signs the runs' tokens, which work for as long as `is_live` says."""

    def __init__(
        self,
        records: Records,
        clock: Clock,
        entropy: Callable[[int], bytes],
        key: bytes,
        *,
        is_live: Callable[[str], Awaitable[bool]],
    ) -> None:
        self._records = records
        self._clock = clock
        self._entropy = entropy
        self._key = key
        self._is_live = is_live
        self._cache: dict[str, tuple[float, Principal | None]] = {}

    # ------------------------------------------------------------------ proving

    async def authenticate(self, secret: str) -> Principal | None:
        """Whose secret it is; None if it is unknown, revoked, expired, of an ended run, or works once only."""
        now = self._clock.monotonic()
        key = hashlib.sha256(secret.encode()).hexdigest()
        cache = self._cache  # a revocation meanwhile puts another in its place, which must not learn what was before it
        cached = cache.get(key)
        if cached and cached[0] > now:
            return cached[1]
        principal = (
            await self._run_principal(secret) if secret.startswith("nx_r_") else await self._stored_principal(secret)
        )
        if len(cache) >= _CACHE_MAX:
            cache.clear()
        cache[key] = (now + _CACHE_S, principal)
        return principal

    async def _stored_principal(self, secret: str) -> Principal | None:
        token = await self._find(secret)
        if token is None or token.purpose in ONCE:
            return None
        kind = PrincipalKind.NODE if token.purpose is Purpose.NODE else PrincipalKind.USER
        return Principal(kind, token.subject, token.project, token.role)

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
        if token is None or token.purpose is not purpose:
            raise DeniedError(
                f"this {purpose} token is not known, was used, or has expired",
                hint="Make a new one: " + ("nexus open" if purpose is Purpose.LOGIN else "nexus token join"),
            )
        try:
            await self._records.apply((TOKENS, replace(token, used=True)))
        except ConflictError as error:
            raise DeniedError(f"this {purpose} token was just used", hint="Make a new one.") from error
        return token

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
        actor: str = "nexus",
    ) -> NewToken:
        """A new token; its secret is in the answer and nowhere else."""
        raw = base64.urlsafe_b64encode(self._entropy(32)).decode().rstrip("=")
        secret = f"nx_{purpose[0]}_{raw}"
        digest = hashlib.sha256(secret.encode()).hexdigest()
        now = self._clock.now()
        lifetime = lifetime_s if lifetime_s is not None else LIFETIME_S.get(purpose)
        token = Token(
            id=digest[:32],
            project=project,
            created=now,
            purpose=purpose,
            subject=subject,
            role=role,
            name=name,
            digest=digest,
            expires=now + lifetime if lifetime is not None else None,
        )
        event = Event("token.created", token.id, project, now, actor, {"purpose": purpose, "subject": subject})
        await self._records.apply((TOKENS, token), events=[event])
        return NewToken(secret=secret, token=_view(token))

    async def create_for(self, principal: Principal, name: str, role: Role, lifetime_s: float | None) -> NewToken:
        """A token for a person or program, with at most the asker's own role. Raises ForbiddenError, UsageError."""
        principal.need(role)
        if not 0 < len(name.strip()) <= _LONGEST_NAME:
            words = f"a token needs a name of at most {_LONGEST_NAME} characters"
            raise UsageError(words, hint="For example: nexus token create laptop")
        if lifetime_s is not None and not 0 < lifetime_s < math.inf:
            raise UsageError(f"{lifetime_s} s is no lifetime", hint="Such as --expires 30d; never when left out.")
        return await self.create(
            purpose=Purpose.USER,
            subject=name.strip(),
            project=principal.project,
            role=role,
            name=name.strip(),
            lifetime_s=lifetime_s,
            actor=principal.subject,
        )

    async def join_token(self, principal: Principal, lifetime_s: float | None = None) -> NewToken:
        """A token with which one machine may join the asker's project."""
        principal.need(Role.MEMBER)
        return await self.create(
            purpose=Purpose.JOIN,
            subject=principal.subject,
            project=principal.project,
            lifetime_s=lifetime_s,
            actor=principal.subject,
        )

    async def node_token(self, node: str, project: str) -> str:
        """The token of a machine that has joined; earlier ones of this node stop working."""
        await self.revoke_subject(Purpose.NODE, node)
        return (await self.create(purpose=Purpose.NODE, subject=node, project=project)).secret

    async def login_code(self, principal: Principal) -> NewToken:
        """A code that becomes one browser session with the asker's own role. Raises ForbiddenError."""
        principal.need(Role.VIEWER)
        if principal.kind is not PrincipalKind.USER:
            raise ForbiddenError("only a person can log in", hint="Make the code with a person's token: nexus open")
        return await self.create(
            purpose=Purpose.LOGIN, subject=principal.subject, project=principal.project, role=principal.role
        )

    async def exchange(self, code: str) -> NewToken:
        """A browser session for a login code, or for a person's token. Raises DeniedError."""
        token = await self._find(code)
        if token is None or token.purpose is not Purpose.USER:
            token = await self.redeem(code, Purpose.LOGIN)
        return await self.create(purpose=Purpose.SESSION, subject=token.subject, project=token.project, role=token.role)

    async def end_session(self, secret: str) -> None:
        """Log a browser out; nothing happens if it was not logged in."""
        token = await self._find(secret)
        if token is not None and token.purpose is Purpose.SESSION:
            await self._records.apply((TOKENS, replace(token, revoked=True)))
            self._cache = {}

    # ------------------------------------------------------------------ runs

    def run_token(self, run: str, project: str) -> str:
        """The token of a run's tasks, until the run ends: it may read the project and write what is the run's."""
        text = f"{run}.{project}"
        return f"nx_r_{text}.{self._sign(text)}"

    async def _run_principal(self, secret: str) -> Principal | None:
        text, _, signature = secret.removeprefix("nx_r_").rpartition(".")
        run, _, project = text.partition(".")
        if not hmac.compare_digest(signature.encode(), self._sign(text).encode()) or not await self._is_live(run):
            return None
        return Principal(PrincipalKind.RUN, run, project, Role.VIEWER)

    def _sign(self, text: str) -> str:
        mac = hmac.new(self._key, b"run-token\0" + text.encode(), hashlib.sha256).digest()
        return base64.urlsafe_b64encode(mac).decode().rstrip("=")

    # ------------------------------------------------------------------ seeing and revoking

    async def tokens(self, principal: Principal) -> list[TokenView]:
        """The project's tokens of people and programs, newest first."""
        principal.need(Role.ADMIN)
        found = await self._records.find(
            TOKENS, {"project": principal.project, "purpose": [Purpose.USER, Purpose.SESSION]}, newest=True
        )
        return [_view(token) for token in found]

    async def revoke(self, principal: Principal, token_id: str) -> TokenView:
        """Make a token useless, now. Raises NotFoundError."""
        principal.need(Role.ADMIN)
        token = await self._records.get(TOKENS, token_id)
        if token is None or token.project != principal.project:
            raise NotFoundError(f"no token {token_id}", hint="nexus token list shows them.")
        revoked = replace(token, revoked=True)
        event = Event("token.revoked", token.id, token.project, self._clock.now(), principal.subject)
        await self._records.apply((TOKENS, revoked), events=[event])
        self._cache = {}
        return _view(revoked)

    async def revoke_subject(self, purpose: Purpose, subject: str) -> None:
        """Make every token of `purpose` that `subject` has useless."""
        held = await self._records.find(TOKENS, {"purpose": purpose, "subject": subject})
        live = [token for token in held if not token.revoked]
        if live:
            await self._records.apply(*((TOKENS, replace(token, revoked=True)) for token in live))
        self._cache = {}


def _view(token: Token) -> TokenView:
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
