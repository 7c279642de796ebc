"""Attacks against defences as a grid: which simulations it takes, and the table that comes of them. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from html import escape

import msgspec

from nexus.federate.model import Part, Settings

NONE = "none"
PLANTED = "attack_success"


@dataclass(frozen=True, slots=True)
class Cell:
    """One simulation: an attack (or none) against a defence (or none)."""

    attack: str
    defence: str

    def settings(self, base: Settings) -> Settings:
        """What it runs; options that `base` has for the same part stay."""
        return replace(base, attack=_part(self.attack, base.attack), defence=_part(self.defence, base.defence))


@dataclass(frozen=True, slots=True)
class Found:
    """How it ended: the last round's metrics, or why there is none."""

    cell: Cell
    metrics: dict[str, float]
    seconds: float = 0.0
    error: str = ""


def cells(attacks: Sequence[str], defences: Sequence[str]) -> list[Cell]:
    """All of them, row by row, the attackless row first."""
    rows = [NONE, *(name for name in attacks if name != NONE)]
    columns = [NONE, *(name for name in defences if name != NONE)]
    return [Cell(attack, defence) for attack in rows for defence in columns]


def key(task: bytes, settings: Settings) -> str:
    """The name under which a cell's result is kept: another task file or another setting is another cell."""
    return sha256(task + msgspec.json.encode(settings)).hexdigest()[:24]


def table(found: Sequence[Found], metric: str) -> tuple[list[str], list[list[str]]]:
    """Heads and rows: a row for each defence, a column for each attack."""
    by_cell = {one.cell: one for one in found}
    attacks = list(dict.fromkeys(one.cell.attack for one in found))
    defences = list(dict.fromkeys(one.cell.defence for one in found))
    rows = [[d, *(_told(by_cell.get(Cell(a, d)), metric) for a in attacks)] for d in defences]
    return ["defence", *attacks], rows


def markdown(found: Sequence[Found], metric: str) -> str:
    """The table for a page of text."""
    heads, rows = table(found, metric)
    lines = [heads, ["---"] * len(heads), *rows]
    return "".join("| " + " | ".join(line) + " |\n" for line in lines)


def page(found: Sequence[Found], metric: str, facts: Mapping[str, str]) -> str:
    """The table as a page that needs nothing else."""
    heads, rows = table(found, metric)
    head = "".join(f"<th>{escape(text)}</th>" for text in heads)
    body = "".join("<tr>" + _html_cells(row) + "</tr>" for row in rows)
    said = "".join(f"<li>{escape(name)}: {escape(value)}</li>" for name, value in facts.items())
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8"><title>Attacks and defences</title>'
        "<style>body{font:15px system-ui;margin:2rem}td,th{padding:.3rem .6rem;text-align:right}"
        "th:first-child{text-align:left}</style>"
        f"<h1>Attacks and defences</h1><ul>{said}</ul><table><tr>{head}</tr>{body}</table></html>\n"
    )


def _html_cells(row: Sequence[str]) -> str:
    cells_html = [f"<th>{escape(row[0])}</th>"]
    for text in row[1:]:
        value = text.split(" ")[0]
        good = float(value) if value.replace(".", "", 1).isdigit() else 0.0
        cells_html.append(f'<td style="background:hsl({120 * min(good, 1.0):.0f} 60% 85%)">{escape(text)}</td>')
    return "".join(cells_html)


def _told(one: Found | None, metric: str) -> str:
    if one is None:
        return "-"
    if one.error or metric not in one.metrics:
        return "failed"
    planted = one.metrics.get(PLANTED)
    return f"{one.metrics[metric]:.2f}" + (f" ({planted:.2f})" if planted is not None else "")


def _part(name: str, base: Part | None) -> Part | None:
    if name == NONE:
        return None
    return base if base is not None and base.name == name else Part(name)
