"""Where a group of tasks goes: anywhere, or all on one fast network."""

from __future__ import annotations

from collections.abc import Sequence

from nexus.launch.core.placement.ask import Ask
from nexus.launch.core.placement.index import Index, copies, fits
from nexus.launch.core.placement.matching import Row
from nexus.launch.core.placement.room import Room
from nexus.launch.core.placement.search import ROUNDING, Asked, Search, Solution


def solve(index: Index, roles: Sequence[Asked], limit: float, *, fast: bool) -> Solution | None:
    """The cheapest place for every task of `roles`, no task dearer than `limit`, on one fast network if `fast`."""
    ordered = sorted(roles, key=lambda asked: _ease(asked[1]))
    index.fresh()
    return _on_one_network(index, ordered, limit) if fast else Search(index, ordered, limit).run()


def _ease(ask: Ask) -> tuple[float, ...]:
    return (-ask.need.gpus, -ask.need.memory_b, -ask.need.cpu)


def _on_one_network(index: Index, roles: Sequence[Asked], limit: float) -> Solution | None:
    """Nodes that share a fast network; a node that names none is fast only with itself."""
    if len(roles) > 1:
        return _several_roles(index, roles, limit)
    _, ask, indices = roles[0]
    together = Ask(ask.need, ask.policy, ask.style, copies=len(indices))
    alone = index.first(together, limit)  # all of them on one node: there every network is fast
    least = float("inf") if alone is None else alone[0][0] * len(indices)
    best = None if alone is None else [alone[1]]
    rows = index.rows(ask.need)
    for bound, name in _networks([(ask, rows, len(indices))]):
        if bound >= least - ROUNDING:
            break
        price = _price_on(name, ask, rows, len(indices), limit)
        if price < least - ROUNDING:
            least, best = price, _rooms(name, rows)
    return None if best is None else Search(index, roles, limit, best).run()


def _several_roles(index: Index, roles: Sequence[Asked], limit: float) -> Solution | None:
    rows = [index.rows(ask.need) for _, ask, _ in roles]
    every = [row for of in rows for row in of]
    asked = [(ask, of, len(indices)) for (_, ask, indices), of in zip(roles, rows, strict=True)]
    best: Solution | None = None
    for bound, name in _networks(asked):
        if best is not None and bound >= best.ranked - ROUNDING:
            break
        best = _cheaper(best, Search(index, roles, limit, _rooms(name, every)).run())
    for room in _alone(rows[0]):
        best = _cheaper(best, Search(index, roles, limit, [room]).run())
    return best


def _cheaper(best: Solution | None, found: Solution | None) -> Solution | None:
    if found is None or (best is not None and found.ranked >= best.ranked - ROUNDING):
        return best
    return found


def _networks(asked: Sequence[tuple[Ask, list[Row], int]]) -> list[tuple[float, str]]:
    """The networks with machines of a kind for every role, and what the tasks cost there at least; cheapest first."""
    each = [_bounds(ask, rows, count) for ask, rows, count in asked]
    names = set(each[0]).intersection(*each[1:])
    return sorted((sum(bounds[name] for bounds in each), name) for name in names)


def _bounds(ask: Ask, rows: Sequence[Row], count: int) -> dict[str, float]:
    """What `count` tasks cost at least on each network that has the machines for them, were they free."""
    least: dict[str, float] = {}
    slots: dict[str, int] = {}
    for row in rows:
        kind, bits, factor = row.kind, row.bits, row.low * ask.wear(row.kind) * count
        each = kind.gpus // ask.gpus if ask.gpus else count
        for name, cell in kind.networks.items():
            if cell.flags & bits:
                bound = cell.rooms[0][0] * factor
                if bound < least.get(name, float("inf")):
                    least[name] = bound
                slots[name] = slots.get(name, 0) + each * len(cell.rooms)
    return {name: bound for name, bound in least.items() if slots[name] >= count}


def _price_on(name: str, ask: Ask, rows: Sequence[Row], count: int, limit: float) -> float:
    """What `count` tasks cost on one network, as ranked; infinite where they have no room."""
    found: list[tuple[float, int]] = []
    gpus = ask.gpus
    for row in rows:
        bits, wear = row.bits, ask.wear(row.kind)
        cell = row.kind.networks.get(name)
        for price, _, _, room in cell.rooms if cell is not None and cell.flags & bits else ():
            if room.gpus.bit_count() < gpus or not room.flag & bits or not fits(room, row, ask):
                continue
            real = price * row.low if row.even else ask.price(room.node)
            if real <= limit:
                found.append((real * wear, copies(room, row, ask, count)))
    found.sort()
    total = 0.0
    for ranked, many in found:
        total += ranked * min(many, count)
        count -= many
        if count <= 0:
            return total
    return float("inf")


def _rooms(name: str, rows: Sequence[Row]) -> list[Room]:
    kinds = {row.kind: None for row in rows}
    cells = (kind.networks[name] for kind in kinds if name in kind.networks)
    return [cheap[3] for cell in cells for cheap in cell.rooms]


def _alone(rows: Sequence[Row]) -> list[Room]:
    """Rooms that a task fits, on no fast network."""
    shelves = (shelf for row in rows for shelf in row.kind.shelves if shelf.flag & row.bits)
    return [room for shelf in shelves for room in shelf.unnamed()]
