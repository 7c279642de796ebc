"""Why there is no place, in words: each node while they are few, else how many nodes each reason has."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Sequence

from nexus.launch.core.placement.ask import Ask
from nexus.launch.core.placement.fit import misfit, shortage
from nexus.launch.core.placement.index import Index, fits
from nexus.launch.core.placement.matching import Row
from nexus.launch.core.placement.room import Room
from nexus.launch.core.placement.search import Asked
from nexus.launch.core.placement.shelf import Shelf
from nexus.launch.model import Rejection, RolePlan, RunPlan

ONE_BY_ONE = 256  # nodes up to which each is named


def nowhere(index: Index, asked: Sequence[Asked], *, fast: bool) -> str:
    """Why tasks have no place together, where there are nodes."""
    if any(index.first(ask, float("inf")) is None for _, ask, _ in asked):
        return "no node fits"
    count = sum(len(indices) for _, _, indices in asked)
    if fast:
        return f"no fast network has room for all {count} tasks at once"
    return f"the nodes that fit have no room for all {count} tasks at once"


def too_dear(price: float, spent: float, plan: RunPlan) -> str:
    """Why a place is not taken."""
    rest = f", beside {spent:.2f}/h that it holds already" if spent else ""
    return f"the cheapest place costs {price:.2f}/h{rest}; max_price is {plan.max_price:.2f}/h"


def rejections(asked: Sequence[Asked], rooms: Collection[Room], index: Index) -> Iterator[Rejection]:
    """Why which node cannot take one task of a role."""
    if len(rooms) <= ONE_BY_ONE:
        ordered = sorted(rooms, key=lambda room: (room.node.name, room.node.id))
        for role, ask, _ in asked:
            for room in ordered:
                if _is_seen(ask, room.node.users):
                    reason = misfit(role, room.node) or shortage(role, room)
                    if reason:
                        yield Rejection(room.node.id, role.name, reason)
        return
    for role, ask, _ in asked:
        yield from _counted(role, ask, rooms, index)


def _counted(role: RolePlan, ask: Ask, rooms: Collection[Room], index: Index) -> Iterator[Rejection]:
    """By shelf: nodes alike have reasons alike, in the words of one of them."""
    counts: defaultdict[str, int] = defaultdict(int)
    example: dict[str, str] = {}

    def count(reason: str, room: Room, nodes: int = 1) -> None:
        counts[reason] += nodes
        example.setdefault(reason, room.node.id)

    match = index.match(ask.need)
    rows, words = {row.kind: row for row in match.rows()}, match.words
    for shelf in index.shelves:
        if shelf.rooms and _is_seen(ask, shelf.place.project):
            row = rows.get(shelf.kind)
            if row is None or not shelf.flag & row.bits:
                room = next(iter(shelf.rooms.values()))
                reason = words.get((shelf, role.image))
                if reason is None:
                    reason = words[shelf, role.image] = misfit(role, room.node) or "does not fit"
                count(reason, room, len(shelf.rooms))
            else:
                _busy(role, ask, shelf, row, count)
    for room in rooms:
        if room.shelf is None and _is_seen(ask, room.node.users):
            count(misfit(role, room.node), room)
    for reason, nodes in counts.items():
        yield Rejection(example[reason], role.name, reason, nodes)


def _is_seen(ask: Ask, users: str) -> bool:
    """Whether whoever asks hears of nodes that runs of this project (empty: of all) may use."""
    return not ask.need.project or users in {ask.need.project, ""}


def _busy(role: RolePlan, ask: Ask, shelf: Shelf, row: Row, count: Callable[[str, Room, int], None]) -> None:
    """The rooms of a shelf that fits which have not enough free: one reason for each stack."""
    for stack in shelf.stacks.values():
        short = [entry[4] for entry in stack.entries if not fits(entry[4], row, ask)]
        if short:
            count(misfit(role, short[0].node) or shortage(role, short[0]), short[0], len(short))
