"""Who asks: every request carries a `Principal`, and every route says what it needs of one."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from nexus.kernel.errors import ForbiddenError, NotFoundError


class Role(StrEnum):
    """What a person's token may do in its project; each includes the one before it."""

    VIEWER = "viewer"
    MEMBER = "member"
    ADMIN = "admin"


_RANK = {Role.VIEWER: 0, Role.MEMBER: 1, Role.ADMIN: 2}


def lesser(one: Role, other: Role) -> Role:
    """The one that may do less."""
    return min(one, other, key=_RANK.__getitem__)


class PrincipalKind(StrEnum):
    """Whose token it is."""

    USER = "user"
    NODE = "node"  # an agent: may touch only the tasks leased to it
    RUN = "run"  # a job's own token: may touch only its run, and read its project


@dataclass(frozen=True, slots=True)
class Principal:
    """An identity that was proven by a token or a session."""

    kind: PrincipalKind
    subject: str  # a user's name, a node's id, a run's id
    project: str
    role: Role = Role.VIEWER
    owner: bool = False  # an owner of the server: manages users and projects
    token: str = field(default="", compare=False)  # the id of what proved it
    address: str = field(default="", compare=False)  # where the request came from
    task: str = field(default="", compare=False)  # of a run's token: the id of the task that it was given to

    def need_owner(self) -> None:
        """Refuse unless this is an owner of the server. Raises ForbiddenError."""
        if not self.owner:
            raise ForbiddenError(
                f"{self.kind} {self.subject} may not do this: it is for the server's owners",
                hint="On the server's own machine the command line is one: nexus user add NAME --owner makes another.",
            )

    def need_person(self, role: Role = Role.VIEWER) -> None:
        """Refuse a job's own token, too: it must not leave anything behind that lives longer. Raises ForbiddenError."""
        self.need(role)
        if self.kind is not PrincipalKind.USER:
            raise ForbiddenError("only a person may do this", hint="Do it with your own token: nexus login URL TOKEN")

    def need(self, role: Role) -> None:
        """Refuse unless this is a person or run with at least `role`. Raises ForbiddenError."""
        if self.kind is PrincipalKind.NODE or _RANK[self.role] < _RANK[role]:
            raise ForbiddenError(
                f"{self.kind} {self.subject} may not do this: it needs the role {role}",
                hint="Ask an admin for a token with that role: nexus token create --role " + role,
            )

    def need_node(self) -> str:
        """The id of the node that asks. Raises ForbiddenError for anybody else."""
        if self.kind is not PrincipalKind.NODE:
            raise ForbiddenError("only a node's agent may do this", hint="Join the machine: nexus agent join URL TOKEN")
        return self.subject

    def see(self, project: str, what: str = "thing") -> None:
        """Refuse, as if it did not exist, what belongs to another project. Raises NotFoundError."""
        if project != self.project:
            raise NotFoundError(f"no such {what}")
