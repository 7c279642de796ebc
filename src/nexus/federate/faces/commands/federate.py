"""`nexus federate`: learn together from data that stays where it is."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from nexus.federate.core.algorithms import ALGORITHMS
from nexus.federate.core.parts import chosen
from nexus.federate.core.schedule import CLOCK
from nexus.federate.core.settings import check, override
from nexus.federate.faces.compare import compare
from nexus.federate.faces.data import data, fetch, spread_of, told
from nexus.federate.model import Part, Round, Settings
from nexus.infra.shell import Shell
from nexus.kernel.errors import MissingError, UsageError
from nexus.kernel.units import format_bytes, format_seconds

if TYPE_CHECKING:
    from nexus.federate.core.task import Task


@click.group("federate")
def command() -> None:
    """Learn together from data that stays where it is."""


command.add_command(data)
command.add_command(fetch)
command.add_command(compare)


@command.command("simulate")
@click.argument("app", type=click.Path(path_type=Path))
@click.option("--algorithm", help=f"How to learn together: {', '.join(ALGORITHMS)}.")
@click.option("--rounds", type=int, help="How many rounds.")
@click.option("--cohort", type=int, help="How many clients take part in each.")
@click.option("--seed", type=int, help="The same seed gives the same model, for any number of workers.")
@click.option("--set", "changes", multiple=True, metavar="PATH=VALUE", help="algorithm.mu=0.1, local.lr=0.05, ...")
@click.option("--workers", type=click.IntRange(0), default=0, help="Processes; 0: one per core, 1: only this one.")
@click.option(
    "--out", type=click.Path(path_type=Path), help="Where results go.  [default: $NEXUS_OUTPUTS or federated]"
)
@click.option("--plan", is_flag=True, help="Check everything and say what would run; train nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON for machines.")
@click.pass_obj
def simulate(
    shell: Shell,
    app: Path,
    algorithm: str | None,
    rounds: int | None,
    cohort: int | None,
    seed: int | None,
    changes: tuple[str, ...],
    workers: int,
    out: Path | None,
    plan: bool,
    as_json: bool,
) -> None:
    """Run the federated task in APP over all its clients on this machine; needs no server."""
    shell.json = shell.json or as_json
    try:
        from nexus.federate.simulation import load_task, simulate
    except ModuleNotFoundError as error:
        raise MissingError(
            f"simulation needs {error.name}",
            hint="pip install 'nexus[torch]'; in a clone of the repository: make setup",
        ) from error
    task = load_task(app)
    given = {"algorithm": algorithm, "rounds": rounds, "cohort": cohort, "seed": seed}
    wanted = {name: str(value) for name, value in given.items() if value is not None} | _pairs(changes)
    settings = check(override(task.settings, wanted), task.clients)
    folder = out or Path(os.environ.get("NEXUS_OUTPUTS", "federated"))
    if plan:
        _show_plan(shell, app, task, settings, folder)
        return
    shell.say(f"{settings.algorithm} over {task.clients} clients; the model and the rounds go to {folder}/")
    progress = Progress(shell, settings)
    result = simulate(task, settings, workers=workers, each=progress.show)
    paths = result.save(folder)
    if shell.json:
        shell.emit({"settings": settings, "rounds": result.rounds, "files": {k: str(v) for k, v in paths.items()}})
    shell.say(f"the model: {paths['model.safetensors']}")


class Progress:
    """A line for every round, with the time left."""

    def __init__(self, shell: Shell, settings: Settings) -> None:
        self._shell = shell
        self._rounds = settings.rounds
        self._spent = 0.0
        self._names: list[str] = []
        self._clocked: tuple[str, ...] = ()  # where there is virtual time

    def show(self, record: Round) -> None:
        """Say how a round ended."""
        if record.number == 1:
            self._names = list(record.metrics)
            self._clocked = ("clock",) if CLOCK in record.notes else ()
            self._shell.say(
                "".join(f"{head:>11}" for head in ("round", *self._names, *self._clocked, "time", "up", "down", "left"))
            )
        self._spent += record.seconds
        left = self._spent / record.number * (self._rounds - record.number)
        cells = [
            f"{record.number}/{self._rounds}",
            *(f"{record.metrics[name]:.4f}" for name in self._names),
            *(format_seconds(record.notes[CLOCK]) for _ in self._clocked),
            format_seconds(record.seconds),
            format_bytes(record.bytes_up),
            format_bytes(record.bytes_down),
            format_seconds(left),
        ]
        self._shell.say("".join(f"{cell:>11}" for cell in cells))


def _pairs(changes: tuple[str, ...]) -> dict[str, str]:
    pairs = {}
    for change in changes:
        path, mark, value = change.partition("=")
        if not mark:
            raise UsageError(f"--set {change}: there is no `=`", hint="For example --set algorithm.mu=0.1")
        pairs[path.strip()] = value.strip()
    return pairs


def _told(part: Part) -> str:
    options = " ".join(f"{name}={value:g}" for name, value in part.options.items())
    return f"{part.name} {options}".strip()


def _show_plan(shell: Shell, app: Path, task: Task, settings: Settings, folder: Path) -> None:
    from nexus.federate.simulation import describe

    facts = describe(task, settings)
    if shell.json:
        shell.emit({"app": str(app), "settings": settings, **facts})
        return
    options = " ".join(f"{name}={value:g}" for name, value in facts["options"].items())
    local = settings.local
    lines = {
        "task": str(app),
        "model": f"{facts['parameters']} parameters, {format_bytes(facts['parameters'] * 4)}",
        "clients": f"{facts['clients']}, {settings.cohort} in each of {settings.rounds} rounds",
        "samples": f"{facts['samples']['least']} to {facts['samples']['most']} a client",
        "algorithm": f"{settings.algorithm} {options}",
        "parts": ", ".join(f"{family} {_told(part)}" for family, part in chosen(settings).items()),
        "local": f"epochs={local.epochs} batch={local.batch} lr={local.lr:g}",
        "seed": str(settings.seed),
        "traffic": f"{format_bytes(facts['bytes_up'])} up, {format_bytes(facts['bytes_down'])} down, all rounds",
        "results": f"{folder}/",
    }
    for name, value in lines.items():
        shell.say(f"{name:<11}{value}")
    for line in told(spread_of(task), most=10):
        shell.say(line)
