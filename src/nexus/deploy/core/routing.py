"""Decide where a request goes: the route by path or by model name, the replica by least outstanding."""

from __future__ import annotations

from collections.abc import Container, Mapping
from dataclasses import dataclass

from nexus.deploy.model import Replica, Route, Routes

OPENAI_PATHS = frozenset({"/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/v1/responses"})
IDEMPOTENT = frozenset({"GET", "HEAD", "PUT", "DELETE", "OPTIONS", "TRACE"})  # RFC 9110 9.2.2


@dataclass(frozen=True, slots=True)
class Table:
    """A snapshot of routes, indexed for look-ups."""

    version: int
    by_name: Mapping[tuple[str, str], Route]

    def find(self, project: str, endpoint: str) -> Route | None:
        """The route of one endpoint of one project."""
        return self.by_name.get((project, endpoint))

    def models(self, project: str) -> list[Route]:
        """What `/v1/models` lists for a project, by name."""
        mine = (r for (owner, _), r in self.by_name.items() if owner == project and r.openai)
        return sorted(mine, key=lambda route: route.endpoint)


def index(routes: Routes) -> Table:
    """The look-up table of a snapshot."""
    return Table(routes.version, {(route.project, route.endpoint): route for route in routes.routes})


def split_target(target: str) -> tuple[str, str] | None:
    """`/e/digits/predict?x=1` as (`digits`, `/predict?x=1`); None for a path that names no endpoint."""
    if not target.startswith("/e/"):
        return None
    end = len(target)
    for stop in "/?":
        at = target.find(stop, 3)
        if at != -1:
            end = min(end, at)
    name, rest = target[3:end], target[end:]
    if not name:
        return None
    return name, rest if rest.startswith("/") else "/" + rest


def choose(
    replicas: tuple[Replica, ...], outstanding: Mapping[str, int], avoid: Container[str], turn: int
) -> Replica | None:
    """The replica with the fewest outstanding requests; `turn` rotates among equals, `avoid` names those to spare.

    None only when every replica is to be avoided, or there is none.
    """
    best, least = None, 0
    count = len(replicas)
    for step in range(count):
        replica = replicas[(turn + step) % count]
        if replica.id in avoid:
            continue
        load = outstanding.get(replica.id, 0)
        if best is None or load < least:
            best, least = replica, load
            if not load:
                break
    return best


def may_send_again(method: str, *, pure: bool, answered: bool, sent: bool) -> bool:
    """Whether a request whose connection broke may go to another replica.

    Never once a byte of its answer went out (`answered`). Always when nothing was `sent`. In between the replica may
    have acted on it: only where that does no harm, by its method (RFC 9110 9.2.2) or because the endpoint is pure.
    """
    if answered:
        return False
    return not sent or pure or method in IDEMPOTENT


def spare_s(failures: int) -> float:
    """How long a replica that refused `failures` connections in a row is spared: 0.2 s, doubling to 10 s."""
    return float(min(0.2 * 2.0 ** min(failures - 1, 10), 10.0))
