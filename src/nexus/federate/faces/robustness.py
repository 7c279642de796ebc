"""`nexus federate robustness`: how the task fares under attacks, with every defence."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from nexus.federate.core.grid import NONE, Found, cells, markdown, page, table
from nexus.federate.core.parts import FAMILIES
from nexus.federate.core.settings import override
from nexus.federate.faces.changes import pairs
from nexus.infra.shell import Shell
from nexus.kernel.errors import MissingError, UsageError
from nexus.kernel.units import format_seconds


@click.command("robustness")
@click.argument("app", type=click.Path(path_type=Path))
@click.option("--attacks", default="", metavar="A,B", help="Which attacks.  [default: all]")
@click.option("--defences", default="", metavar="A,B", help="Which defences.  [default: all]")
@click.option("--set", "changes", multiple=True, metavar="PATH=VALUE", help="rounds=20, local.lr=0.05, ...")
@click.option("--metric", help="Which metric is shown.  [default: the task's first]")
@click.option("--workers", type=click.IntRange(0), default=0, help="Simulations at once; 0: one per core.")
@click.option("--out", type=click.Path(path_type=Path), default=Path("robustness"), show_default=True)
@click.option("--json", "as_json", is_flag=True, help="Print JSON for machines.")
@click.pass_obj
def command(
    shell: Shell,
    app: Path,
    attacks: str,
    defences: str,
    changes: tuple[str, ...],
    metric: str | None,
    workers: int,
    out: Path,
    as_json: bool,
) -> None:
    """Simulate APP under every attack with every defence, and write the table. What is done is not done again."""
    shell.json = shell.json or as_json
    try:
        from nexus.federate.robustness import load_task, measure
    except ModuleNotFoundError as error:
        raise MissingError(f"simulation needs {error.name}", hint="pip install 'nexus[torch]'") from error
    task = load_task(app)
    settings = override(task.settings, pairs(changes))
    wanted = cells(_names("attack", attacks), _names("defence", defences))
    shown = metric or next(iter(task.metrics), "loss")
    done = 0

    def each(found: Found) -> None:
        nonlocal done
        done += 1
        value = found.error or f"{found.metrics.get(shown, float('nan')):.4f}"
        shell.say(f"{done}/{len(wanted)} {found.cell.attack} against {found.cell.defence}: {value}")

    found = measure(task, app.read_bytes(), settings, wanted, out / "cells", workers=workers, each=each)
    (out / "robustness.md").write_text(markdown(found, shown))
    facts = {
        "task": app.name,
        "shown": f"{shown} of the final model, and in brackets how often a planted pattern wins",
        "time": format_seconds(sum(one.seconds for one in found)),
    }
    (out / "robustness.html").write_text(page(found, shown, facts))
    if shell.json:
        shell.emit({"metric": shown, "settings": settings, "cells": found})
        return
    _show(shell, found, shown)
    shell.say(f"the table: {out}/robustness.md and {out}/robustness.html")


def _show(shell: Shell, found: Sequence[Found], metric: str) -> None:
    heads, rows = table(found, metric)
    widths = [max(len(row[at]) for row in (heads, *rows)) for at in range(len(heads))]
    for row in (heads, *rows):
        shell.say("  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip())


def _names(family: str, text: str) -> list[str]:
    """Raises NotFoundError for one that is not there, UsageError for none."""
    known = FAMILIES[family]
    if not text:
        return known.names()
    names = [name.strip() for name in text.split(",") if name.strip()]
    if not names:
        raise UsageError(f"--{family}s names none", hint=f"There are: {', '.join(known.names())}.")
    for name in names:
        if name != NONE:
            known.get(name)
    return names
