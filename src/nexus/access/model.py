"""What Access talks about: tokens of every purpose. Only a token's SHA-256 is kept."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from nexus.kernel.identity import Role
from nexus.kernel.records import Kind, Record


class Purpose(StrEnum):
    """What a token is for."""

    USER = "user"  # a person or a program, until revoked
    NODE = "node"  # an agent, until its node is removed
    JOIN = "join"  # lets one machine join, once
    LOGIN = "login"  # becomes one browser session, once
    SESSION = "session"  # a browser


ONCE = frozenset({Purpose.JOIN, Purpose.LOGIN})
LIFETIME_S = {Purpose.JOIN: 600.0, Purpose.LOGIN: 300.0, Purpose.SESSION: 14 * 86400.0}


@dataclass(frozen=True, slots=True, kw_only=True)
class Token(Record):
    """`id` is the first 32 hex digits of the secret's SHA-256, which is enough to find and not enough to use it."""

    purpose: Purpose
    subject: str
    role: Role = Role.VIEWER
    name: str = ""
    digest: str = ""
    expires: float | None = None
    used: bool = False  # of those that work once
    revoked: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenView:
    """A token as people see it: never its secret, never its digest."""

    id: str
    purpose: Purpose
    subject: str
    role: Role
    name: str
    created: float
    expires: float | None
    revoked: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class NewToken:
    """The only answer that ever shows a secret."""

    secret: str
    token: TokenView


TOKENS = Kind("token", Token, index=("purpose", "subject"))
