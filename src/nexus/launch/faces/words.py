"""How runs, tasks and nodes are written for people on a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from nexus.kernel.events import Event
from nexus.kernel.units import format_bytes, format_seconds
from nexus.launch.core.exits import why_it_ended
from nexus.launch.faces.views import NodeUse, RunSummary
from nexus.launch.model import RUN_LIFE, TASK_LIFE, Node, Offer, Run, RunState, Task

RUNS_HEAD = ("ID", "NAME", "KIND", "STATE", "WHERE", "AGE", "DURATION", "COST")
TASKS_HEAD = ("TASK", "ROLE", "TRY", "NODE", "STATE", "DURATION", "DETAIL")
OFFERS_HEAD = ("PRICE", "PROVIDER", "REGION", "MACHINE", "GPU", "CPU", "MEMORY", "SPOT", "COUNT", "START")
NODES_HEAD = ("NAME", "STATE", "TASKS", "CPU", "MEMORY", "GPU", "REGION", "PRICE", "LABELS")


def run_row(run: RunSummary, where: str, now: float) -> tuple[str, ...]:
    """One line of `nexus runs`."""
    age = format_seconds(max(0.0, now - run.created))
    return (run.id, run.name, run.kind, state_of(run), where, age, duration_of(run, now), money(run.cost))


def state_of(run: Run | RunSummary) -> str:
    """The state, and with it what somebody asked for and has not come about yet."""
    asked = run.wanted == "stop" and not RUN_LIFE.is_final(run.state) and run.state is not RunState.STOPPING
    return f"{run.state} (stop asked)" if asked else str(run.state)


def duration_of(what: Run | RunSummary | Task, now: float) -> str:
    """How long it ran, or runs; empty before it started."""
    if what.started is None:
        return ""
    until = what.ended if what.ended is not None else now
    return format_seconds(max(0.0, until - what.started))


def money(amount: float) -> str:
    """`0.42`; more digits for small amounts; empty for nothing."""
    return "" if not amount else f"{amount:.2f}" if amount >= 0.1 else f"{amount:.4f}"


def task_row(task: Task, nodes: dict[str, str], now: float) -> tuple[str, ...]:
    """One line of `nexus show`."""
    over = TASK_LIFE.is_final(task.state)
    detail = why_it_ended(task) if over and task.cause is not None else task.detail
    where = nodes.get(task.node, task.node)
    name = f"{task.role}[{task.index}]"
    return (task.id, name, str(task.attempt + 1), where, str(task.state), duration_of(task, now), detail)


def node_row(use: NodeUse) -> tuple[str, ...]:
    """One line of `nexus nodes`: held of total."""
    node, capacity = use.node, use.node.capacity
    labels = " ".join(f"{name}={value}" for name, value in sorted(node.labels.items()))
    memory = f"{format_bytes(use.memory_b)} of {format_bytes(capacity.memory_b)}"
    return (
        node.name,
        f"{node.state}, shared" if node.shared else str(node.state),
        str(use.tasks),
        f"{use.cpu:g} of {capacity.cpu:g}",
        memory,
        gpus_of(node, use.gpus),
        node.region,
        " ".join(filter(None, (f"{node.price:.2f}/h" if node.price else "", "spot" if node.spot else ""))),
        labels,
    )


def gpus_of(node: Node, held: int) -> str:
    """`2 of 4 A100`; empty without accelerators."""
    names = sorted({gpu.name for gpu in node.capacity.gpus})
    return f"{held} of {len(node.capacity.gpus)} {', '.join(names)}" if names else ""


def places(nodes: Sequence[str]) -> str:
    """`gpu1 + 3`: where it is, in the room of a column."""
    return nodes[0] if len(nodes) == 1 else f"{nodes[0]} + {len(nodes) - 1}" if nodes else ""


def event_line(event: Event, stamp: str) -> str:
    """`12:03:07  task.failed  worker[1]  exited with code 3`."""
    data = event.data
    who = f"{data['role']}[{data['index']}]" if "role" in data and "index" in data else str(data.get("name", ""))
    rest = str(data.get("reason") or data.get("detail") or "")
    if not rest and data.get("exit_code"):
        rest = f"code {data['exit_code']}"
    by = "" if event.actor == "nexus" else f"by {event.actor}"
    return "  ".join(part for part in (stamp, f"{event.kind:<16}", who, rest, by) if part)


def offer_row(offer: Offer) -> tuple[str, ...]:
    """One line of `nexus offers`."""
    capacity = offer.capacity
    names = sorted({gpu.name for gpu in capacity.gpus})
    return (
        f"{offer.price:.4g}/h",
        offer.provider,
        offer.region,
        offer.machine,
        f"{len(capacity.gpus)}x {', '.join(names)}" if names else "",
        f"{capacity.cpu:g}",
        format_bytes(capacity.memory_b),
        "spot" if offer.spot else "",
        "" if offer.unavailable else "any" if offer.count is None else str(offer.count),
        "list price" if not offer.fleet else offer.unavailable or format_seconds(offer.start_s),
    )
