"""What `nexus launch` shows before it runs anything: the job, the machines chosen, and why not the others."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from nexus.infra.package import Package
from nexus.kernel.units import format_bytes
from nexus.launch.model import Node, Placement, RolePlan, RunPlan

_SHOWN = 6


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
    widths = [max((len(row[column]) for row in rows), default=0) for column in range(4)]
    return ["   ".join(text.ljust(width) for text, width in zip(row, widths, strict=True) if width) for row in rows]


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
