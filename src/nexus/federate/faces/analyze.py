"""`nexus federate analyze`: a question to data that stays where it is."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from nexus.federate.faces.changes import pairs
from nexus.federate.model import Part
from nexus.infra.shell import Shell
from nexus.kernel.errors import MissingError, UsageError

if TYPE_CHECKING:
    from nexus.federate.core.ask import Columns

_QUERIES = "mean, histogram, quantile, frequency, heavy_hitters, union, intersection, cardinality"


_EXAMPLE = "--set q=0.9"


@click.command("analyze")
@click.argument("data", type=click.Path(path_type=Path))
@click.option("--query", required=True, help=f"What to ask: {_QUERIES}.")
@click.option("--column", default="y", help="Of what; y of a task are its labels.", show_default=True)
@click.option("--client", help="The column of a table that says whose each row is.")
@click.option("--set", "changes", multiple=True, metavar="NAME=VALUE", help="The query's options: q=0.9, low=0, ...")
@click.option("--privacy", help="How single clients are protected: central, local, ...")
@click.option("--noise", type=float, help="The privacy's noise.")
@click.option("--clip", type=float, help="The privacy's clip.")
@click.option("--cohort", type=int, help="How many clients are asked in each round.  [default: all]")
@click.option("--seed", type=int, default=0, help="Of every draw.", show_default=True)
@click.option("--json", "as_json", is_flag=True, help="Print JSON for machines.")
@click.pass_obj
def analyze(
    shell: Shell,
    data: Path,
    query: str,
    column: str,
    client: str | None,
    changes: tuple[str, ...],
    privacy: str | None,
    noise: float | None,
    clip: float | None,
    cohort: int | None,
    seed: int,
    as_json: bool,
) -> None:
    """Ask a question of the clients in DATA: an app.py (y its labels, x0, x1, ... its inputs), CSV or Parquet.

    Clients send sums and never their values; here everything is simulated. `federate.ask` in a file is the same as a
    task, which `nexus launch` runs where the data lies.
    """
    shell.json = shell.json or as_json
    columns, clients = columns_of(data, client)
    from dataclasses import replace

    from nexus.federate.core.ask import ask
    from nexus.federate.simulation import simulate

    options = _numbers(changes)
    task = ask(columns, query, column=column, clients=clients, **options)
    given = {name: value for name, value in (("noise", noise), ("clip", clip)) if value is not None}
    if given and privacy is None:
        raise UsageError("--noise and --clip belong to a privacy", hint="For example --privacy central.")
    protection = Part(privacy, given) if privacy else None
    settings = replace(task.settings, seed=seed, privacy=protection, cohort=cohort or clients)
    result = simulate(task, settings, workers=1)
    last = result.rounds[-1]
    if shell.json:
        sent = sum(record.bytes_up for record in result.rounds)
        shell.emit({"query": query, "column": column, "clients": clients, "bytes_up": sent, "answer": last.notes})
        return
    rows = [(name.removeprefix("value/"), f"{value:.6g}") for name, value in last.notes.items()]
    shell.table((query, column), rows)


def columns_of(path: Path, client: str | None) -> tuple[Columns, int]:
    """The clients' values by column, and how many clients there are. Raises UsageError, FileError, MissingError."""
    try:
        import numpy as np

        from nexus.federate.data.tables import csv_columns, parquet_columns
    except ModuleNotFoundError as error:
        raise MissingError(f"analysis needs {error.name}", hint="pip install 'nexus[torch]'") from error
    if path.suffix not in {".csv", ".parquet"}:
        return _columns_of_app(path)
    table = csv_columns(path) if path.suffix == ".csv" else parquet_columns(path)
    if client is None or client not in table:
        raise UsageError(
            f"{path} needs a column that says whose each row is", hint=f"--client COLUMN; it has: {', '.join(table)}."
        )
    keys, owner = np.unique(table[client], return_inverse=True)
    rows = [np.flatnonzero(owner == one) for one in range(len(keys))]

    def columns(one: int) -> dict[str, Any]:
        return {name: values[rows[one]] for name, values in table.items()}

    return columns, len(keys)


def _columns_of_app(path: Path) -> tuple[Columns, int]:
    from nexus.federate.faces.data import loaded

    task = loaded(path)

    def columns(one: int) -> dict[str, Any]:
        import numpy as np

        x, y = task.data(one)
        wide = np.asarray(x).reshape(len(x), -1)
        return {"y": np.asarray(y)} | {f"x{at}": wide[:, at] for at in range(wide.shape[1])}

    return columns, task.clients


def _numbers(changes: tuple[str, ...]) -> dict[str, float]:
    found = {}
    for name, value in pairs(changes, example=_EXAMPLE).items():
        try:
            found[name] = float(value)
        except ValueError:
            raise UsageError(f"--set {name}={value}: {value!r} is no number", hint=f"For example {_EXAMPLE}") from None
    return found
