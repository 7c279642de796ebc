"""`nexus federate simulate` as a person calls it."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner, Result

from nexus.federate.faces.commands.federate import command
from nexus.infra.http_client import HttpClient
from nexus.infra.shell import Shell
from nexus.kernel.errors import FileError, MissingError, NexusError, NotFoundError, UsageError
from tests.federate.tasks import SMALL

pytestmark = pytest.mark.torch


def no_server() -> HttpClient:
    raise AssertionError("simulation needs no server")


def call(*arguments: str, error: type[NexusError] | None = None) -> Result:
    result = CliRunner().invoke(command, arguments, obj=Shell(connect=no_server))
    if error is None:
        assert result.exception is None, result.output
    else:
        assert isinstance(result.exception, error)
        assert result.exception.hint
    return result


def test_rounds_are_shown_and_kept(tmp_path):
    result = call("simulate", str(SMALL), "--rounds", "3", "--workers", "1", "--out", str(tmp_path / "o"))
    assert "accuracy" in result.output
    assert "3/3" in result.output
    assert f"{tmp_path}/o/" in result.output.splitlines()[0]  # said before anything is written
    assert {path.name for path in (tmp_path / "o").iterdir()} == {"rounds.jsonl", "model.safetensors", "result.json"}


def test_json_is_one_document_and_options_are_honoured(tmp_path):
    arguments = ["simulate", str(SMALL), "--algorithm", "fedprox", "--set", "algorithm.mu=0.1", "--seed", "9"]
    result = call(*arguments, "--cohort", "2", "--rounds", "2", "--json", "--workers", "2", "--out", str(tmp_path))
    said = json.loads(result.output)
    assert said["settings"]["algorithm"] == "fedprox"
    assert said["settings"]["options"] == {"mu": 0.1}
    assert (said["settings"]["seed"], said["settings"]["cohort"], len(said["rounds"])) == (9, 2, 2)


def test_a_plan_writes_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert "scaffold" in call("simulate", str(SMALL), "--plan", "--algorithm", "scaffold").output
    assert json.loads(call("simulate", str(SMALL), "--plan", "--json").output)["clients"] == 12
    assert list(tmp_path.iterdir()) == []


def test_the_spread_of_the_data_is_shown_in_the_plan_too(tmp_path):
    picture = tmp_path / "deep" / "parts.svg"
    shown = call("data", str(SMALL), "--out", str(picture)).output
    assert "12 clients have 300 samples" in shown
    assert picture.read_text().startswith("<svg")
    numbers = json.loads(call("data", str(SMALL), "--json").output)
    assert sum(sum(row.values()) for row in numbers["labels"]) == numbers["samples"] == 300
    assert 0 < numbers["heterogeneity"] < 1
    assert shown.splitlines()[0] in call("simulate", str(SMALL), "--plan").output


def test_a_table_is_asked_and_answers(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("site,age,drug\na,1,x\na,2,y\nb,6,x\n")
    table = ["analyze", str(path), "--client", "site"]
    assert "3" in call(*table, "--query", "mean", "--column", "age").output
    found = json.loads(call(*table, "--query", "intersection", "--column", "drug", "--json").output)
    assert found["answer"] == {"different": 1, "unread": 0, "value/x": 2}
    assert found["clients"] == 2
    few = json.loads(call(*table, "--query", "union", "--column", "drug", "--set", "least=2", "--json").output)
    assert few["answer"]["different"] == 1
    labels = json.loads(call("analyze", str(SMALL), "--query", "frequency", "--json").output)
    assert sum(v for k, v in labels["answer"].items() if k.startswith("value/")) == 300
    call("analyze", str(path), "--query", "mean", error=UsageError)
    call(*table, "--query", "mean", "--column", "ages", error=NexusError)
    call(*table, "--query", "meen", "--column", "age", error=NotFoundError)
    call(*table, "--query", "mean", "--column", "age", "--noise", "1", error=UsageError)
    call(*table, "--query", "mean", "--column", "age", "--set", "low", error=UsageError)


def test_numbers_reach_the_run_they_are_made_in(tmp_path, monkeypatch):
    import nexus.track.sdk as sdk

    (tmp_path / "spool").mkdir()
    recorder = sdk.Recorder(str(tmp_path / "spool"))
    monkeypatch.setattr(sdk, "_recorder", recorder)
    monkeypatch.setenv("NEXUS_RUN_NAME", "my digits")
    call("simulate", str(SMALL), "--rounds", "2", "--workers", "1", "--out", str(tmp_path / "o"))
    recorder.flush()
    written = b"".join(path.read_bytes() for path in (tmp_path / "spool").glob("m-*.bin"))
    assert b"federate/accuracy" in written
    requests = [json.loads(path.read_text()) for path in (tmp_path / "spool").glob("artifact-*.json")]
    assert {(request["name"], request["kind"]) for request in requests} == {
        ("rounds", "artifact"),
        ("my-digits", "model"),
    }


def test_ways_are_compared_by_how_soon_they_get_how_far():
    common = ["compare", str(SMALL), "--set", "devices=random", "--set", "devices.spread=1.5", "--workers", "1"]
    ways = ["--try", "schedule=sync,rounds=8", "--try", "schedule=buffered,rounds=24"]
    found = json.loads(call(*common, *ways, "--reach", "0.8", "--reach", "2", "--json").stdout)
    waits, flows = (way["reached"][0] for way in found)
    assert flows["seconds"] < waits["seconds"] <= found[0]["seconds"]
    assert waits["round"] <= 8
    assert all(way["virtual"] and way["reached"][1]["seconds"] is None for way in found)
    said = call(*common, *ways).stdout
    assert "virtual" in said
    assert "schedule=buffered,rounds=24" in said


@pytest.mark.parametrize(
    ("more", "hint"),
    [
        (["--try", "rounds"], "="),
        (["--try", "rounds=2", "--metric", "f1"], "accuracy, loss"),
        (["--try", "schedule=ring,algorithm=scaffold"], "schedule"),
    ],
)
def test_a_bad_comparison_says_the_next_step(more, hint):
    result = call("compare", str(SMALL), *more, error=UsageError)
    assert isinstance(result.exception, UsageError)
    assert hint in result.exception.hint


def test_rounds_show_virtual_time_where_there_is_some(tmp_path):
    result = call(
        "simulate", str(SMALL), "--rounds", "2", "--workers", "1", "--set", "devices=random", "--out", str(tmp_path)
    )
    assert "clock" in result.output


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (["nowhere.py"], FileError),
        ([str(SMALL), "--set", "rounds"], UsageError),
        ([str(SMALL), "--set", "local.rate=3"], UsageError),
        ([str(SMALL), "--algorithm", "fedsvg"], NotFoundError),
        ([str(SMALL), "--cohort", "13"], UsageError),
    ],
)
def test_wrong_arguments_have_a_next_step(arguments, error):
    call("simulate", *arguments, error=error)


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("import no_such_library", MissingError),
        ("def f(:\n", FileError),
        ("x = 3", FileError),
    ],
)
def test_files_that_are_no_task(text, error, tmp_path):
    path = tmp_path / "app.py"
    path.write_text(text)
    result = call("simulate", str(path), error=error)
    assert isinstance(result.exception, NexusError)
    assert "app.py" in str(result.exception.details or result.exception)
