"""What `nexus launch` shows before it runs anything: the job, the machines chosen, and why not the others."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from nexus.infra.package import Package
from nexus.kernel.units import format_bytes, format_seconds
from nexus.launch.core.comparing import Alternative, Comparison
from nexus.launch.model import Node, Placement, PriceNote, RolePlan, RunPlan

_SHOWN = 6
_LISTED = "list price"
_FRESH_DAYS = 30  # an older price list is said to be old


def plan_lines(
    name: str, plan: RunPlan, package: Package | None, placement: Placement, nodes: Mapping[str, Node]
) -> list[str]:
    """The picture, a line at a time."""
    lines = [headline(name, plan, package)]
    if placement.fits:
        lines += [f"  CHOSEN    {text}" for text in chosen(plan, placement, nodes)]
    else:
        lines.append(f"  NOWHERE   {placement.reason}")
    return lines + rejected(placement, nodes)


def compared_lines(
    name: str,
    plan: RunPlan,
    package: Package | None,
    comparison: Comparison,
    nodes: Mapping[str, Node],
    *,
    limit: int = _SHOWN,
) -> list[str]:
    """`plan_lines`, and with them where else the run could go, cheapest first; then how old list prices are."""
    placement, chosen_one = comparison.placement, comparison.startable
    others = [one for one in _best_of_each(comparison.alternatives) if placement.fits or one is not chosen_one]
    rows = [_alternative(one) for one in others[:limit]]
    lines = [headline(name, plan, package)]
    if placement.fits:
        lines += [f"  CHOSEN    {text}" for text in chosen(plan, placement, nodes)]
    elif chosen_one is not None:
        rows.insert(0, _alternative(chosen_one))
    else:
        lines.append(f"  NOWHERE   {placement.reason}")
    starts = chosen_one is not None and not placement.fits
    for at, text in enumerate(_aligned(rows)):
        lines.append(f"  {'CHOSEN' if starts and at == 0 else 'or' if at == int(starts) else '':<9} {text}".rstrip())
    if len(others) > limit:
        lines.append(f"            and {len(others) - limit} more: --json lists all")
    lines += _refused(comparison)
    if not placement.fits or not rows:
        lines += rejected(placement, nodes)
    listed = [one for one in others if not one.fleet]
    if listed:
        lines.append(f"  {_LISTED}: {listed[0].unavailable}")
        lines += [f"  {line}" for line in price_notes(comparison.prices)]
    return lines


def price_notes(prices: PriceNote | None) -> list[str]:
    """How old a price list is, and what to do when it is too old."""
    if prices is None:
        return []
    age = "today" if not prices.age_days else f"{prices.age_days} day{'' if prices.age_days == 1 else 's'} ago"
    names = ", ".join(sorted({provider for source in prices.sources for provider in source.providers}))
    notes = [f"prices of {names}: a list that was read {age} ({prices.made})"]
    if prices.age_days > _FRESH_DAYS:
        notes.append("that is old: nexus offers refresh fetches today's, where the internet is reached")
    return notes + ([prices.trouble] if prices.trouble else [])


def _best_of_each(alternatives: Sequence[Alternative]) -> list[Alternative]:
    """The cheapest place of each provider, kept and spot: one line for seventeen regions of the same price."""
    found: dict[tuple[str, bool, bool], Alternative] = {}
    for one in alternatives:
        provider = one.where if not one.unavailable else one.where.partition(":")[0]
        found.setdefault((provider, one.spot, bool(one.unavailable)), one)
    return list(found.values())


def _alternative(one: Alternative) -> tuple[str, ...]:
    """Where, on what, for how much, and what to know of it."""
    machines = " + ".join(f"{few.count}x {few.machine}" if few.count > 1 else few.machine for few in one.machines)
    gpus = " + ".join(f"{count}x {name}" for name, count in one.gpus.items())
    about = [f"{format_seconds(one.start_s)} to start"] if not one.unavailable else []
    if one.spot:
        about.append(f"reclaimed {one.reclaims_per_h:.0%}/h")
    about += [one.unavailable if one.fleet else _LISTED] if one.unavailable else []
    return f"{one.where}{' (spot)' if one.spot else ''}", machines, gpus, f"{one.price:.2f}/h", ", ".join(about)


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))] if rows else []
    return ["   ".join(text.ljust(width) for text, width in zip(row, widths, strict=True) if width) for row in rows]


def _refused(comparison: Comparison) -> list[str]:
    """`rejected 214 offers: 180 over max_price, 34 in other regions`."""
    count = sum(one.count for one in comparison.refused)
    if not count:
        return []
    why = ", ".join(f"{one.count} {one.reason}" for one in comparison.refused)
    return [f"  rejected  {count} offer{'' if count == 1 else 's'}: {why}"]


def headline(name: str, plan: RunPlan, package: Package | None) -> str:
    """`digits · train · 2 x worker (1 GPU A100, 16 GB memory) · workspace 12 files 48 KB`."""
    parts = [name, plan.kind, " + ".join(_role(role) for role in plan.roles)]
    if package is not None:
        files = len(package.files)
        parts.append(f"workspace {files} file{'' if files == 1 else 's'} {format_bytes(package.content_b)}")
    return " · ".join(parts)


def _role(role: RolePlan) -> str:
    """How many, and what each needs at least."""
    needs = role.needs
    gpu = f"{needs.gpu.count} GPU {'/'.join(needs.gpu.names)}".rstrip() if needs.gpu.count else ""
    cpu = f"{needs.cpu.least:g} cpu" if needs.cpu.low else ""
    memory = f"{format_bytes(needs.memory_b.least)} memory" if needs.memory_b.low else ""
    words = ", ".join(part for part in (gpu, cpu, memory) if part)
    count = f"{role.count} x {role.name}" if role.count != 1 else role.name
    return f"{count} ({words})" if words else count


def chosen(plan: RunPlan, placement: Placement, nodes: Mapping[str, Node]) -> list[str]:
    """One line for each role: the machines, their accelerators, the price per hour."""
    rows = []
    for role in plan.roles:
        mine = [assignment for assignment in placement.assignments if assignment.role == role.name]
        if not mine:
            continue
        names = Counter(_name(assignment.node, nodes) for assignment in mine)
        where = " + ".join(f"{name} x{count}" if count > 1 else name for name, count in names.items())
        gpus = _gpus([(assignment.node, index) for assignment in mine for index in assignment.gpus], nodes)
        price = f"{sum(assignment.price for assignment in mine):.2f}/h"
        rows.append((where, role.name if len(plan.roles) > 1 else "", gpus, price))
    return _aligned(rows)


def rejected(placement: Placement, nodes: Mapping[str, Node]) -> list[str]:
    """`rejected 3 machines`, and each reason with the machines it holds for; most frequent first."""
    by_reason: dict[str, list[str]] = {}
    for rejection in placement.rejections:
        names = by_reason.setdefault(rejection.reason, [])
        name = _name(rejection.node, nodes)
        if name not in names:
            names.append(name)
    machines = {rejection.node for rejection in placement.rejections}
    if not machines:
        return []
    lines = [f"  rejected  {len(machines)} machine{'' if len(machines) == 1 else 's'}"]
    for reason, names in sorted(by_reason.items(), key=lambda item: (-len(item[1]), item[0])):
        more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
        lines.append(f"            {', '.join(names[:_SHOWN])}{more}: {reason}")
    return lines


def _name(node: str, nodes: Mapping[str, Node]) -> str:
    return nodes[node].name if node in nodes else node


def _gpus(held: Sequence[tuple[str, int]], nodes: Mapping[str, Node]) -> str:
    names: Counter[str] = Counter()
    for node, index in held:
        gpus = nodes[node].capacity.gpus if node in nodes else ()
        names[gpus[index].name if index < len(gpus) else "GPU"] += 1
    return " + ".join(f"{count}x {name}" for name, count in names.items())
