"""`nexus federate robustness`: the whole table by one command, kept cell by cell."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from nexus.federate.core.grid import Cell, Found, cells, markdown, page
from nexus.federate.faces.robustness import command
from nexus.infra.http_client import HttpClient
from nexus.infra.shell import Shell
from nexus.kernel.errors import NexusError, NotFoundError, UsageError
from tests.federate.tasks import SMALL

pytestmark = pytest.mark.torch
ARGUMENTS = [str(SMALL), "--attacks", "ipm,replacement", "--defences", "median", "--set", "rounds=3"]


def no_server() -> HttpClient:
    raise AssertionError("simulation needs no server")


def call(*arguments: str, error: type[NexusError] | None = None):
    result = CliRunner().invoke(command, arguments, obj=Shell(connect=no_server))
    if error is None:
        assert result.exception is None, result.output
    else:
        assert isinstance(result.exception, error), result.output
    return result


def test_the_table_is_shown_and_written_and_nothing_is_run_twice(tmp_path):
    first = call(*ARGUMENTS, "--out", str(tmp_path))
    assert "6/6" in first.output
    text = (tmp_path / "robustness.md").read_text()
    assert text.splitlines()[0] == "| defence | none | ipm | replacement |"
    assert "<table>" in (tmp_path / "robustness.html").read_text()
    kept = sorted((tmp_path / "cells").iterdir())
    assert len(kept) == 6
    times = [path.stat().st_mtime_ns for path in kept]
    kept[0].unlink()  # as if it had been interrupted
    again = json.loads(call(*ARGUMENTS, "--json", "--workers", "1", "--out", str(tmp_path)).output)
    assert [path.stat().st_mtime_ns for path in kept[1:]] == times[1:]
    assert (tmp_path / "robustness.md").read_text() == text, "the same seed, the same table"
    by_cell = {(one["cell"]["attack"], one["cell"]["defence"]): one["metrics"] for one in again["cells"]}
    assert by_cell["ipm", "none"]["accuracy"] < by_cell["ipm", "median"]["accuracy"]
    call(*ARGUMENTS, "--set", "seed=9", "--out", str(tmp_path))
    assert len(list((tmp_path / "cells").iterdir())) == 12, "other settings are other cells"


def test_wrong_names_and_impossible_cells_are_said_before_anything_runs(tmp_path):
    out = ["--out", str(tmp_path)]
    call(str(SMALL), "--attacks", "sing_flip", *out, error=NotFoundError)
    call(str(SMALL), "--attacks", ",", *out, error=UsageError)
    call(str(SMALL), "--set", "cohort=99", *out, error=UsageError)
    assert list(tmp_path.iterdir()) == []


def test_a_cell_that_fails_is_in_the_table():
    found = [Found(cell, {"accuracy": 0.5}) for cell in cells(["zero"], [])]
    found[1] = Found(Cell("zero", "none"), {}, error="the model is <infinite>")
    assert markdown(found, "accuracy").splitlines()[-1] == "| none | 0.50 | failed |"
    assert "&lt;" in page(found, "accuracy", {"task": "<b>"})
