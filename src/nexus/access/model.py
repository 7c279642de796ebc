"""What Access talks about: projects, people, tokens, secrets. Of a token only its SHA-256 is kept."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from nexus.kernel.identity import Role
from nexus.kernel.records import Kind, Record

OWNER = "owner"  # the user that a new server begins with, and that its machine's command line is
DEFAULT_PROJECT = "default"
FORGOTTEN = "events"  # the subject of what says that old events were forgotten


class Purpose(StrEnum):
    """What a token is for."""

    USER = "user"  # a person or a program, until revoked
    NODE = "node"  # an agent, until its node is removed
    JOIN = "join"  # lets one machine join, once
    LOGIN = "login"  # becomes one browser session, once
    SESSION = "session"  # a browser


ONCE = frozenset({Purpose.JOIN, Purpose.LOGIN})
LIFETIME_S = {Purpose.JOIN: 600.0, Purpose.LOGIN: 300.0, Purpose.SESSION: 14 * 86400.0}


# --------------------------------------------------------------------------- tokens


@dataclass(frozen=True, slots=True, kw_only=True)
class Token(Record):
    """`id` is the first 32 hex digits of the secret's SHA-256, which is enough to find and not enough to use it.

    One of a `user` may never do more than that user may in the project, and ends with them. One without stands alone:
    a node's, or one of a server that has no users.
    """

    purpose: Purpose
    subject: str
    role: Role = Role.VIEWER  # the most that it may do
    name: str = ""
    digest: str = ""
    expires: float | None = None
    used: bool = False  # of those that work once
    revoked: bool = False
    user: str = ""
    roams: bool = False  # works in every project of its user; else in its own only
    until: float | None = None  # what comes of it expires no later


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


# --------------------------------------------------------------------------- projects and people


@dataclass(frozen=True, slots=True, kw_only=True)
class Project(Record):
    """`id` is its name. One that was removed keeps its history, and its name is not given again."""

    removed: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class User(Record):
    """`id` is the name. `project` is empty: people belong to the server, their memberships to projects."""

    owner: bool = False  # manages users and projects, and is an admin of each
    password: str = ""  # as `core.passwords` writes it; empty: no login by password


@dataclass(frozen=True, slots=True, kw_only=True)
class Membership(Record):
    """What a user may do in a project. `id` is `project/user`."""

    user: str
    role: Role


@dataclass(frozen=True, slots=True, kw_only=True)
class ProjectView:
    """A project, and what who asks may do in it."""

    name: str
    role: Role
    created: float


@dataclass(frozen=True, slots=True, kw_only=True)
class UserView:
    """A user as people see them. `roles` are by project; an owner is an admin of every one."""

    name: str
    owner: bool
    has_password: bool
    roles: dict[str, Role]
    created: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """A user of a project."""

    user: str
    role: Role
    owner: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class NewUser:
    """A user who was made just now, and the token with which they begin; it is shown once."""

    user: UserView
    token: NewToken


# --------------------------------------------------------------------------- secrets


@dataclass(frozen=True, slots=True, kw_only=True)
class Secret(Record):
    """A value that only tasks see. `id` is `project/name`; the value lies in an envelope (see `adapters.vault`)."""

    name: str
    key: str  # which of the server's keys has wrapped the data key
    wrapped: str  # the data key
    sealed: str  # the value
    by: str
    changed: float


@dataclass(frozen=True, slots=True, kw_only=True)
class SecretView:
    """All that anybody is ever shown of a secret."""

    name: str
    by: str
    changed: float


@dataclass(frozen=True, slots=True)
class Envelope:
    """A sealed value: `key` names the key that wrapped the data key."""

    key: str
    wrapped: str
    sealed: str


@dataclass(frozen=True, slots=True)
class Chain:
    """What `verify` found: how many events are chained, up to which digest, and the first that does not fit."""

    events: int
    unchained: int  # events of an older version, before the chain begins
    head: str
    broken: int | None = None  # its `seq`
    expected: bool = True  # whether the digest that was asked for is in the chain


TOKENS = Kind("token", Token, index=("purpose", "subject", "user"), hot={})
PROJECTS = Kind("project", Project, hot={})
USERS = Kind("user", User, hot={})
MEMBERSHIPS = Kind("membership", Membership, index=("user",), hot={})
SECRETS = Kind("secret", Secret, index=("name",))
