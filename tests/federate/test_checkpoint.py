"""A simulation that is stopped goes on to the same bits, wherever it was."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from nexus.federate.adapters import checkpoint as module
from nexus.federate.adapters.journal import Journal
from nexus.federate.core.chain import digest
from nexus.federate.model import Part, Round
from nexus.federate.simulation import simulate
from nexus.kernel.errors import ConflictError
from tests.federate.tasks import SMALL, until

pytestmark = pytest.mark.torch


class StoppedError(Exception):
    pass


@pytest.fixture(autouse=True)
def at_every_round(monkeypatch):
    monkeypatch.setattr(module, "_LEAST_S", 0.0)
    monkeypatch.setattr(module, "_PART", float("inf"))


def stop_after(number: int):
    def each(record: Round) -> None:
        if record.number == number:
            raise StoppedError

    return each


CASES: dict[str, dict[str, Any]] = {
    "fedavg": {},
    "fedadam": {"algorithm": "fedadam"},
    "scaffold": {"algorithm": "scaffold"},
    "top_k": {"compression": Part("top_k", {"part": 0.05})},
    "by_loss": {"sampler": Part("importance")},
    "buffered": {"schedule": Part("buffered")},
    "noise": {"attack": Part("sign_flip", {"part": 0.2}), "defence": Part("median")},
}


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("name", CASES)
def test_stopped_and_resumed_is_never_stopped(name, workers, digits, tmp_path):
    settings = replace(digits.settings, rounds=6, **CASES[name])
    whole = simulate(digits, settings, workers=1)
    folder = tmp_path / "checkpoint"
    for number in (2, 5):
        with pytest.raises(StoppedError):
            simulate(digits, settings, workers=workers, each=stop_after(number), checkpoint=folder, resume=True)
    seen: list[int] = []
    rest = simulate(
        digits, settings, workers=3 - workers, each=lambda r: seen.append(r.number), checkpoint=folder, resume=True
    )
    assert seen == [6], "and nothing is done twice"
    assert [r.model for r in rest.rounds] == [r.model for r in whole.rounds]
    assert digest(rest.model) == digest(whole.model)
    assert not folder.exists(), "what is over is not gone on with"


def test_what_is_newer_than_the_state_is_not_believed(digits, tmp_path, monkeypatch):
    """A crash between what the clients keep and the state: the round is done again, from what they kept before it."""
    settings = replace(digits.settings, rounds=4, cohort=20, algorithm="scaffold")
    whole = simulate(digits, settings, workers=1)
    folder = tmp_path / "checkpoint"
    commit = Journal.commit

    def torn(journal, state, *records):
        if state.number == 3:
            raise StoppedError
        commit(journal, state, *records)

    monkeypatch.setattr(Journal, "commit", torn)
    with pytest.raises(StoppedError):
        simulate(digits, settings, workers=1, checkpoint=folder)
    assert list(folder.glob("kept-*-00003.safetensors"))
    monkeypatch.setattr(Journal, "commit", commit)
    rest = simulate(digits, settings, workers=1, checkpoint=folder, resume=True)
    assert digest(rest.model) == digest(whole.model)


def test_more_rounds_may_be_asked_for_and_nothing_else(digits, tmp_path):
    folder = tmp_path / "checkpoint"
    settings = replace(digits.settings, rounds=3)
    with pytest.raises(StoppedError):
        simulate(digits, settings, workers=1, each=stop_after(2), checkpoint=folder)
    with pytest.raises(ConflictError):
        simulate(digits, replace(settings, seed=99), workers=1, checkpoint=folder, resume=True)
    more = simulate(digits, replace(settings, rounds=4), workers=1, checkpoint=folder, resume=True)
    assert digest(more.model) == digest(simulate(digits, replace(settings, rounds=4), workers=1).model)


def test_without_resume_it_starts_anew(digits, tmp_path):
    folder = tmp_path / "checkpoint"
    settings = replace(digits.settings, rounds=3)
    with pytest.raises(StoppedError):
        simulate(digits, settings, workers=1, each=stop_after(2), checkpoint=folder)
    seen: list[int] = []
    simulate(digits, replace(settings, seed=9), workers=1, each=lambda r: seen.append(r.number), checkpoint=folder)
    assert seen == [1, 2, 3]


def test_checkpoints_cost_a_small_part_of_the_time(digits, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_LEAST_S", 3600.0)
    written: list[int] = []
    monkeypatch.setattr(Journal, "commit", lambda _, state, *__: written.append(state.number))
    simulate(digits, replace(digits.settings, rounds=3), workers=1, checkpoint=tmp_path / "c")
    assert written == []


def launched(out: Path, *more: str) -> subprocess.Popen[bytes]:
    arguments = ["federate", "simulate", str(SMALL), "--algorithm", "scaffold", "--workers", "2", "--rounds", "12"]
    command = [sys.executable, "-m", "nexus", *arguments, "--out", str(out), *more]
    return subprocess.Popen(command, env=os.environ | {"NEXUS_TEST_DELAY_S": "0.05"}, stdout=subprocess.PIPE)


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_a_stopped_command_goes_on_where_it_was(how, tmp_path):
    from nexus.federate.faces.commands.federate import command
    from nexus.infra.shell import Shell

    out = tmp_path / "out"
    process = launched(out)
    try:
        until(lambda: (out / "checkpoint" / "state.safetensors").exists())
        process.send_signal(how)
        said = process.communicate(timeout=30)[0].decode()
    finally:
        process.kill()
        process.wait(30)
    assert process.returncode != 0
    if how is signal.SIGINT:
        assert "--resume" in said
        assert process.returncode == 130
    arguments = ["simulate", str(SMALL), "--algorithm", "scaffold", "--workers", "1", "--rounds", "12"]
    again = CliRunner().invoke(command, [*arguments, "--out", str(out), "--resume"], obj=Shell(connect=lambda: None))  # type: ignore[arg-type,return-value]
    assert again.exception is None, again.output
    assert "goes on after round" in again.output
    whole = CliRunner().invoke(command, [*arguments, "--out", str(tmp_path / "w")], obj=Shell(connect=lambda: None))  # type: ignore[arg-type,return-value]
    assert whole.exception is None, whole.output
    models = [(folder / "model.safetensors").read_bytes() for folder in (out, tmp_path / "w")]
    assert models[0] == models[1]
