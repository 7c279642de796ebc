"""`nexus federate`: learn together from data that stays where it is."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Self

import click

from nexus.federate.core.algorithms import ALGORITHMS
from nexus.federate.core.parts import chosen
from nexus.federate.core.schedule import CLOCK
from nexus.federate.core.settings import check, override
from nexus.federate.faces.analyze import analyze
from nexus.federate.faces.changes import pairs
from nexus.federate.faces.compare import compare
from nexus.federate.faces.data import data, fetch, spread_of, told
from nexus.federate.faces.fedml import fedml_task
from nexus.federate.faces.robustness import command as robustness
from nexus.federate.model import Part, Round, Settings
from nexus.infra.shell import Shell
from nexus.kernel.errors import MissingError
from nexus.kernel.units import format_bytes, format_seconds

if TYPE_CHECKING:
    from nexus.federate.core.task import Task


@click.group("federate")
def command() -> None:
    """Learn together from data that stays where it is."""


command.add_command(analyze)
command.add_command(data)
command.add_command(fetch)
command.add_command(compare)
command.add_command(robustness)


@command.command("simulate")
@click.argument("app", type=click.Path(path_type=Path), required=False)
@click.option("--fedml", type=click.Path(path_type=Path), help="Settings, data and model as a fedml_config.yaml says.")
@click.option("--algorithm", help=f"How to learn together: {', '.join(ALGORITHMS)}.")
@click.option("--rounds", type=int, help="How many rounds.")
@click.option("--cohort", type=int, help="How many clients take part in each.")
@click.option("--seed", type=int, help="The same seed gives the same model, for any number of workers.")
@click.option("--set", "changes", multiple=True, metavar="PATH=VALUE", help="algorithm.mu=0.1, local.lr=0.05, ...")
@click.option("--workers", type=click.IntRange(0), default=0, help="Processes; 0: one per core, 1: only this one.")
@click.option(
    "--out", type=click.Path(path_type=Path), help="Where results go.  [default: $NEXUS_OUTPUTS or federated]"
)
@click.option("--resume", is_flag=True, help="Go on where a simulation that was stopped left --out.")
@click.option("--plan", is_flag=True, help="Check everything and say what would run, and about how long.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON for machines.")
@click.pass_obj
def simulate(
    shell: Shell,
    app: Path | None,
    fedml: Path | None,
    algorithm: str | None,
    rounds: int | None,
    cohort: int | None,
    seed: int | None,
    changes: tuple[str, ...],
    workers: int,
    out: Path | None,
    resume: bool,
    plan: bool,
    as_json: bool,
) -> None:
    """Run the federated task in APP over all its clients on this machine; needs no server.

    With --fedml the settings are that file's; without an APP its data and model, too.
    """
    shell.json = shell.json or as_json
    try:
        from nexus.federate.simulation import load_task, simulate
    except ModuleNotFoundError as error:
        raise MissingError(
            f"simulation needs {error.name}",
            hint="pip install 'nexus[torch]'; in a clone of the repository: make setup",
        ) from error
    task = load_task(app) if app and not fedml else fedml_task(shell, fedml, app)
    app = app or fedml or Path()
    given = {"algorithm": algorithm, "rounds": rounds, "cohort": cohort, "seed": seed}
    wanted = {name: str(value) for name, value in given.items() if value is not None} | pairs(changes)
    settings = check(override(task.settings, wanted), task.clients)
    folder = out or Path(os.environ.get("NEXUS_OUTPUTS", "federated"))
    if plan:
        _show_plan(shell, app, task, settings, folder)
        return
    shell.say(f"{settings.algorithm} over {task.clients} clients; the model and the rounds go to {folder}/")
    checkpoint = folder / "checkpoint"
    if resume and not (checkpoint / "state.safetensors").exists():
        shell.say(f"nothing was left in {folder}/ to go on with; this starts with round 1")
    try:
        with Progress(shell, settings) as progress:
            result = simulate(task, settings, workers=workers, each=progress.show, checkpoint=checkpoint, resume=resume)
    except KeyboardInterrupt:
        if checkpoint.exists():
            again = f"nexus federate simulate {app} --resume" + (f" --out {out}" if out else "")
            shell.say(f"stopped; what was done is in {checkpoint}/\n  → Go on with the same options: {again}")
        raise
    paths = result.save(folder)
    if shell.json:
        shell.emit({"settings": settings, "rounds": result.rounds, "files": {k: str(v) for k, v in paths.items()}})
    if result.over:
        shell.say(f"ended after {len(result.rounds)} of {settings.rounds} rounds: {result.over}")
    shell.say(f"the model: {paths['model.safetensors']}")


class Progress:
    """A line for every round; on a terminal also a bar, with how good the model is, the speed, and the time left."""

    def __init__(self, shell: Shell, settings: Settings) -> None:
        self._shell = shell
        self._rounds = settings.rounds
        self._spent = 0.0
        self._done = 0  # rounds, here and now
        self._trained = 0  # clients
        self._names: list[str] | None = None
        self._clocked: tuple[str, ...] = ()  # where there is virtual time
        self._bar = Bar(settings.rounds) if shell.is_tty and not shell.json else None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.clear()

    def show(self, record: Round) -> None:
        """Say how a round ended."""
        if self._bar is not None:
            self._bar.clear()
        if self._names is None:
            self._begin(record)
        self._done += 1
        self._spent += record.seconds
        self._trained += len(record.accepted)
        left = self._spent / self._done * (self._rounds - record.number)
        speed = self._trained / max(self._spent, 1e-9)
        cells = [
            f"{record.number}/{self._rounds}",
            *(f"{record.metrics.get(name, float('nan')):.4f}" for name in self._names or ()),
            *(format_seconds(record.notes[CLOCK]) for _ in self._clocked),
            format_seconds(record.seconds),
            format_bytes(record.bytes_up),
            format_bytes(record.bytes_down),
            f"{speed:.0f}",
            format_seconds(left),
        ]
        self._shell.say("".join(f"{cell:>11}" for cell in cells))
        if self._bar is not None and record.number < self._rounds:
            best = next((f"{name} {value:.4f}, " for name, value in record.metrics.items()), "")
            self._bar.draw(record.number, f"{best}{speed:.0f} clients/s, {format_seconds(left)} left")

    def _begin(self, record: Round) -> None:
        self._names = list(record.metrics)
        self._clocked = ("clock",) if CLOCK in record.notes else ()
        if record.number > 1:
            self._shell.say(f"goes on after round {record.number - 1}")
        heads = ("round", *self._names, *self._clocked, "time", "up", "down", "clients/s", "left")
        self._shell.say("".join(f"{head:>11}" for head in heads))


class Bar:
    """The last line of a terminal."""

    _WIDTH = 30  # characters

    def __init__(self, total: int) -> None:
        self._total = total
        self._is_drawn = False

    def draw(self, done: int, text: str) -> None:
        """Show that `done` of all are done."""
        full = self._WIDTH * done // self._total
        sys.stdout.write(f"[{'#' * full}{'-' * (self._WIDTH - full)}] {100 * done // self._total:3d} %  {text}")
        sys.stdout.flush()
        self._is_drawn = True

    def clear(self) -> None:
        """Take it away."""
        if self._is_drawn:
            sys.stdout.write("\r\x1b[K")
            sys.stdout.flush()
            self._is_drawn = False


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
        "training": f"about {format_seconds(facts['cpu_seconds'])} on one core, as two clients took that were tried",
        "memory": f"{format_bytes(facts['kept_bytes'])} that clients keep, beside the model, the data and Python",
        "results": f"{folder}/",
    }
    for name, value in lines.items():
        shell.say(f"{name:<11}{value}")
    for line in told(spread_of(task), most=10):
        shell.say(line)
