"""`nexus federate simulate --fedml`: what becomes of each key, and the task that follows from them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from nexus.federate.core.fedml import Reading, read_fedml
from nexus.infra.shell import Shell
from nexus.kernel.errors import FileError, UsageError

if TYPE_CHECKING:
    from nexus.federate.core.task import Task


def fedml_task(shell: Shell, config: Path | None, app: Path | None) -> Task:
    """The task of a config; with an `app`, its task under the config's settings. Unknown keys are told on stderr.

    Raises UsageError for keys that cannot be honoured, each with its line.
    """
    if config is None:
        raise UsageError("there is nothing to simulate", hint="nexus federate simulate APP, or --fedml CONFIG")
    try:
        text = config.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise FileError(f"cannot read {config}: {error}", hint="Name a fedml_config.yaml.", file=str(config)) from error
    reading = read_fedml(text, str(config), own_task=app is not None)
    for one in reading.unknown:
        shell.note(f"{config}:{one.place.line}: {one.key} is not known and changes nothing")
    if reading.refused:
        lines = [f"line {one.place.line}: {one.key}: {one.value} ({one.why})" for one in reading.refused]
        raise UsageError(
            f"{config} asks for what cannot be honoured: " + "; ".join(lines), hint="Change or take out these keys."
        )
    shell.note(f"{config}: {len(reading.honoured)} keys honoured, {len(reading.settled)} settled otherwise")
    return _task(reading, app)


def _task(reading: Reading, app: Path | None) -> Task:
    from nexus.federate.simulation import load_task

    query = reading.settings.query
    if app is not None and query is not None:
        from nexus.federate.core.ask import ask
        from nexus.federate.faces.analyze import columns_of

        columns, clients = columns_of(app, None)
        task = ask(columns, query.name, column="y", clients=clients, **query.options)
        return replace(task, settings=replace(task.settings, seed=reading.settings.seed))
    if app is not None:
        task = load_task(app)
        cohort = min(reading.settings.cohort, task.clients)
        return replace(task, settings=replace(reading.settings, cohort=cohort))
    from nexus.federate.fedml import task_of

    return task_of(reading)
