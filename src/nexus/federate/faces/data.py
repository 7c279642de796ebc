"""`nexus federate data`: how a task's data is spread over its clients, in numbers and as a picture."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from nexus.infra.shell import Shell
from nexus.kernel.errors import MissingError

if TYPE_CHECKING:
    from nexus.federate.core.spread import Spread
    from nexus.federate.core.task import Task


@click.command("data")
@click.argument("app", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help="Write the picture there, as SVG.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON for machines.")
@click.pass_obj
def data(shell: Shell, app: Path, out: Path | None, as_json: bool) -> None:
    """Show how the data of the task in APP is spread over its clients."""
    shell.json = shell.json or as_json
    found = spread_of(loaded(app))
    if out is not None:
        from nexus.federate.core.spread import svg

        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(svg(found))
    if shell.json:
        each = [dict(zip(found.classes, map(int, row), strict=True)) for row in found.counts]
        shell.emit({**found.summary(), "labels": each, "picture": str(out or "")})
        return
    for line in told(found, most=40):
        shell.say(line)
    if out is not None:
        shell.say(f"the picture: {out}")


@click.command("fetch")
@click.argument("names", nargs=-1)
@click.pass_obj
def fetch(shell: Shell, names: tuple[str, ...]) -> None:
    """Bring the data sets NAMES to this machine, once; without a name, say which there are."""
    from nexus.federate.data.fetching import FETCHED, place
    from nexus.federate.data.fetching import fetch as bring

    for name in names:
        shell.say(f"{name}: {FETCHED[name].about}" if name in FETCHED else name)
        shell.say(f"  in {bring(name)}")
    if not names:
        rows = [(name, package.about, "yes" if place(name).is_dir() else "no") for name, package in FETCHED.items()]
        shell.table(("name", "what", "here"), rows)


def loaded(app: Path) -> Task:
    """The task in a file. Raises MissingError where PyTorch is, FileError."""
    try:
        from nexus.federate.simulation import load_task
    except ModuleNotFoundError as error:
        raise MissingError(f"simulation needs {error.name}", hint="pip install 'nexus[torch]'") from error
    return load_task(app)


def spread_of(task: Task) -> Spread:
    """How a task's labels are spread."""
    from nexus.federate.core.spread import spread

    return spread(task.clients, lambda client: task.data(client)[1])


def told(found: Spread, *, most: int) -> list[str]:
    """Lines for people: the numbers, and a bar for each of the first clients."""
    from nexus.federate.core.spread import bars

    numbers = found.summary()
    return [
        (
            f"{numbers['clients']:.0f} clients have {numbers['samples']:.0f} samples, from {numbers['least']:.0f} to "
            f"{numbers['most']:.0f} each; by size they weigh as {numbers['effective_clients']:.1f} equal ones"
        ),
        (
            f"labels: {numbers['entropy_bits']:.2f} bits a client, {numbers['distance']:.2f} apart in pairs, "
            f"heterogeneity {numbers['heterogeneity']:.2f} (0 alike, 1 nothing in common)"
        ),
        *bars(found, most=most),
    ]
