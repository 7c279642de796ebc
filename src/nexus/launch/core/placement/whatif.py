"""What one change to a request would bring: a place where there is none, or a cheaper one."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from nexus.kernel.units import Range
from nexus.launch.core.placement.need import need_key
from nexus.launch.core.placement.rooms import POLICY, Rooms
from nexus.launch.core.placement.search import Want
from nexus.launch.core.policy import Policy
from nexus.launch.model import Needs, RunPlan, WhatIf

WORTH = 0.01  # a place must be cheaper by this share of the price to be worth a word


def whatif(
    plan: RunPlan,
    wanted: Sequence[Want],
    rooms: Rooms,
    *,
    spent: float = 0.0,
    policy: Policy = POLICY,
    project: str = "",
) -> tuple[WhatIf, ...]:
    """The changes that help, each by itself; the one with the cheapest place first."""

    def place(of: RunPlan) -> float | None:
        found = rooms.place(of, wanted, spent=spent, policy=policy, project=project)
        return found.price if found.fits else None

    def nodes(of: RunPlan) -> int:
        return min(rooms.suited(need_key(of.role(name), project)) for name in {name for name, _ in wanted})

    now, suited = place(plan), nodes(plan)
    helps = []
    if now is None and plan.max_price is not None:
        price = place(replace(plan, max_price=None))
        if price is not None:
            enough = math.ceil((price + spent) * 100 - 1e-6) / 100
            helps.append(WhatIf(f"with max_price {enough:.2f}", price))
    for words, changed in _changes(plan):
        price = place(changed)
        if price is not None and (now is None or price < now * (1 - WORTH)):
            helps.append(WhatIf(words, price, 0.0 if now is None else now - price, nodes(changed) - suited))
    return tuple(sorted(helps, key=lambda one: one.price))


def in_words(changes: Sequence[WhatIf]) -> list[str]:
    """`without the region eu-*: 0.31/h cheaper`, `with max_price 1.90: it fits now`."""
    lines = []
    for one in changes:
        more = f", {one.nodes} more node{'s' if one.nodes > 1 else ''} could take it" if one.nodes > 0 else ""
        brings = f"{one.cheaper:.2f}/h cheaper" if one.cheaper else f"it fits now, for {one.price:.2f}/h"
        lines.append(f"{one.words}: {brings}{more}")
    return lines


def _changes(plan: RunPlan) -> Iterator[tuple[str, RunPlan]]:
    """The plan with one constraint less, for each that it has."""
    for words, drop in _constraints(plan):
        roles = tuple(replace(role, needs=drop(role.needs)) for role in plan.roles)
        if roles != plan.roles:
            yield words, replace(plan, roles=roles)
    if plan.network == "fast":
        yield "without `network: fast`", replace(plan, network="any")


def _constraints(plan: RunPlan) -> Iterator[tuple[str, Callable[[Needs], Needs]]]:
    every = [role.needs for role in plan.roles]
    regions = (region for needs in every for region in needs.regions)
    yield _named("region", regions), lambda needs: replace(needs, regions=())
    for kind in sorted({needs.spot for needs in every} - {"auto"}):
        yield f"without `spot: {kind}`", lambda needs: replace(needs, spot="auto")
    for label in sorted({name for needs in every for name in needs.labels}):
        yield f"without the label {label}", _without_label(label)
    names = (name for needs in every for name in needs.gpu.names)
    yield _named("accelerator", names), lambda needs: replace(needs, gpu=replace(needs.gpu, names=()))
    yield (
        "with any memory of the accelerators",
        lambda needs: replace(needs, gpu=replace(needs.gpu, memory_b=Range())),
    )
    yield "on larger machines, too", _unbounded


def _named(what: str, names: Iterator[str]) -> str:
    found = list(dict.fromkeys(names))
    return f"without the {what}{'s' if len(found) > 1 else ''} {' or '.join(found)}"


def _without_label(label: str) -> Callable[[Needs], Needs]:
    return lambda needs: replace(needs, labels={name: value for name, value in needs.labels.items() if name != label})


def _unbounded(needs: Needs) -> Needs:
    """No upper bounds."""
    return replace(needs, cpu=Range(needs.cpu.low), memory_b=Range(needs.memory_b.low), disk_b=Range(needs.disk_b.low))
