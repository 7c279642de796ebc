"""`nexus federate compare`: the same task in several ways, side by side: how soon each gets how far, at what cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import click

from nexus.federate.core.schedule import CLOCK
from nexus.federate.core.settings import check, override
from nexus.federate.faces.changes import pairs
from nexus.federate.faces.data import loaded
from nexus.federate.model import Round
from nexus.infra.shell import Shell
from nexus.kernel.errors import UsageError
from nexus.kernel.units import format_bytes, format_seconds

_EXAMPLE = "--try algorithm=fedprox,algorithm.mu=0.1"


@dataclass(frozen=True, slots=True)
class Way:
    """One way and what came of it."""

    name: str
    rounds: Sequence[Round]


@dataclass(frozen=True, slots=True)
class Mark:
    """A value of a metric that is to be reached: from below, or a loss from above."""

    metric: str
    value: float

    def first(self, way: Way) -> Round | None:
        """The round that first reached it."""
        return next((record for record in way.rounds if self._good(record.metrics[self.metric])), None)

    def _good(self, value: float) -> bool:
        return value <= self.value if self.metric == "loss" else value >= self.value


@click.command("compare")
@click.argument("app", type=click.Path(path_type=Path))
@click.option("--set", "changes", multiple=True, metavar="PATH=VALUE", help="What is the same in every way.")
@click.option(
    "--try", "ways", multiple=True, required=True, metavar="PATH=VALUE,...", help="One way; give this several times."
)
@click.option("--metric", help="What to compare.  [default: the task's first metric]")
@click.option("--reach", "marks", type=float, multiple=True, help="Values to reach.  [default: what all of them reach]")
@click.option("--workers", type=click.IntRange(0), default=0, help="Processes; 0: one per core, 1: only this one.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON for machines.")
@click.pass_obj
def compare(
    shell: Shell,
    app: Path,
    changes: tuple[str, ...],
    ways: tuple[str, ...],
    metric: str | None,
    marks: tuple[float, ...],
    workers: int,
    as_json: bool,
) -> None:
    """Simulate the task in APP in several ways, and say how soon each gets how far.

    For example --set devices=random --try schedule=sync --try schedule=buffered,rounds=60
    """
    shell.json = shell.json or as_json
    task = loaded(app)
    chosen = metric or next(iter(task.metrics), "loss")
    if task.test is None or chosen not in {*task.metrics, "loss"}:
        known = ", ".join((*task.metrics, "loss")) if task.test is not None else "none: the task has no `test`"
        raise UsageError(f"there is no metric {chosen!r} to compare", hint=f"There are: {known}.")
    common = pairs(changes)
    settings = [
        check(override(task.settings, common | pairs(way.split(","), "--try", _EXAMPLE)), task.clients) for way in ways
    ]
    from nexus.federate.simulation import simulate

    done = []
    for name, wanted in zip(ways, settings, strict=True):
        shell.note(f"{name}: {wanted.rounds} rounds")
        done.append(Way(name, simulate(task, wanted, workers=workers).rounds))
    reach = [Mark(chosen, value) for value in marks] or [Mark(chosen, _reached_by_all(done, chosen))]
    if shell.json:
        shell.emit([_facts(way, chosen, reach) for way in done])
        return
    heads = ("way", "rounds", *(f"to {mark.value:.4g}" for mark in reach), f"last {chosen}", "time", "up")
    shell.table(heads, [_row(way, chosen, reach) for way in done])


def _reached_by_all(ways: Sequence[Way], metric: str) -> float:
    """The best of the way that gets least far."""
    best = [[record.metrics[metric] for record in way.rounds] for way in ways]
    return max(map(min, best)) if metric == "loss" else min(map(max, best))


def _time(record: Round, way: Way) -> float:
    """When a round ended: on virtual time if there is one, else seconds of this machine."""
    if CLOCK in record.notes:
        return record.notes[CLOCK]
    return sum(one.seconds for one in way.rounds[: record.number])


def _facts(way: Way, metric: str, reach: Sequence[Mark]) -> dict[str, object]:
    last = way.rounds[-1]
    found = [(mark, mark.first(way)) for mark in reach]
    return {
        "way": way.name,
        "rounds": len(way.rounds),
        "virtual": CLOCK in last.notes,
        "seconds": _time(last, way),
        "metrics": last.metrics,
        "bytes_up": sum(record.bytes_up for record in way.rounds),
        "reached": [
            {"metric": metric, "value": mark.value, "round": at and at.number, "seconds": at and _time(at, way)}
            for mark, at in found
        ],
    }


def _row(way: Way, metric: str, reach: Sequence[Mark]) -> tuple[str, ...]:
    last = way.rounds[-1]
    cells = []
    for mark in reach:
        at = mark.first(way)
        cells.append("never" if at is None else f"{format_seconds(_time(at, way))}, round {at.number}")
    kind = " virtual" if CLOCK in last.notes else ""
    up = format_bytes(sum(record.bytes_up for record in way.rounds))
    time = format_seconds(_time(last, way)) + kind
    return (way.name, str(len(way.rounds)), *cells, f"{last.metrics[metric]:.4f}", time, up)
