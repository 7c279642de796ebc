"""Death in every phase of a round: no accepted update is lost, none counts twice, and the record says what happened.

The processes are forked from this one, so what is patched here happens there.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from nexus.federate.adapters import chunks, frames
from nexus.federate.adapters.chunks import Incoming
from nexus.federate.adapters.coordinator import Coordinator
from nexus.federate.adapters.host import HostProcess
from nexus.federate.adapters.http_client import Line
from nexus.federate.adapters.journal import Journal
from nexus.federate.adapters.loader import load_task
from nexus.federate.core import identity
from nexus.federate.core.chain import close_round
from nexus.federate.core.settings import override
from nexus.federate.core.total import OrderedFold
from nexus.federate.core.worker import Worker
from nexus.federate.model import Outcome, Round
from nexus.federate.simulation import simulate
from nexus.infra.clock import SystemClock
from tests.federate.tasks import SMALL, Silos

pytestmark = pytest.mark.torch


@pytest.fixture
def silos(tmp_path: Path) -> Iterator[Silos]:
    made = Silos(tmp_path)
    yield made
    made.close()


def dying(role: str, index: int, marker: Path, method: Callable[..., Any], call: int, *, after: bool) -> Any:
    """`method`, in whose `call`th call the process of that task dies, once."""
    calls = 0

    def dies(*arguments: Any, **named: Any) -> Any:
        nonlocal calls
        if (os.environ.get("NEXUS_ROLE"), os.environ.get("NEXUS_INDEX")) != (role, str(index)):
            return method(*arguments, **named)
        calls += 1
        found = method(*arguments, **named) if after or calls != call else None
        if calls == call and not marker.exists():
            marker.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return found if after or calls != call else method(*arguments, **named)

    return dies


def recomputed(rounds: list[Round], *changes: str) -> list[str]:
    """The digests of the models that the recorded updates make, each counted once."""
    task = load_task(SMALL)
    settings = override(task.settings, dict(change.split("=") for change in changes))
    worker = Worker(task, settings, SystemClock())
    state, found = worker.begin(), []
    for record in rounds:
        fold = OrderedFold(len(record.cohort), worker.algorithm.sends(state))
        for position, turn in enumerate(record.turns):
            if turn.outcome is Outcome.ACCEPTED:
                mine, step = worker.turn(record.number, turn.client, worker.algorithm.plan(state), {})
                assert mine.samples == turn.samples
                fold.add(position, step.send, worker.algorithm.weight(turn.samples))
        state, made = close_round(worker.composition, state, fold.finish(), record.turns, started=0.0)
        found.append(made.model)
    return found


ALWAYS = {"with an update that is kept and not confirmed", "in a commit", "with half of an update sent"}


def some(phases: dict[str, Any]) -> list[Any]:
    """All phases, of which the slow suite tries most: each is half a dozen processes."""
    return [pytest.param(phase, marks=() if phase in ALWAYS else pytest.mark.slow) for phase in phases]


SERVER_PHASES = {
    "before a round is opened": (Journal, "open_round", 2, False),
    "once a round is opened": (Journal, "open_round", 2, True),
    "with a part of an update": (Incoming, "add", 15, True),
    "with an update that is judged and not moved": (frames, "settle", 16, False),
    "with an update that is kept and not confirmed": (frames, "settle", 22, True),
    "before the sum": (Coordinator, "_close", 2, False),
    "after the sum": (Coordinator, "_close", 2, True),
    "before a commit": (Journal, "commit", 3, False),
    "in a commit": (Journal, "_append", 2, False),
    "after a commit": (Journal, "commit", 3, True),
}


@pytest.mark.parametrize("phase", some(SERVER_PHASES))
def test_a_server_killed_in_any_phase_loses_nothing_and_counts_nothing_twice(
    phase: str, silos: Silos, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chunks, "CHUNK_B", 400)  # an update is some chunks
    owner, name, call, after = SERVER_PHASES[phase]
    marker = tmp_path / "killed"
    monkeypatch.setattr(owner, name, dying("server", 0, marker, getattr(owner, name), call, after=after))
    silos.start_all()
    assert silos.wait("server-0", 20) == -signal.SIGKILL
    assert marker.exists()
    silos.start("server")
    for task in silos.processes:
        assert silos.wait(task, 20) == 0, silos.log(task)
    small = load_task(SMALL)
    wanted = simulate(small, small.settings, workers=1).rounds
    assert [record.model for record in silos.rounds()] == [record.model for record in wanted]
    assert all(record.accepted == record.cohort for record in silos.rounds())


CLIENT_PHASES = {
    "before it joins": (HostProcess, "_join", 1, False),
    "once it has work": (Line, "work", 1, True),
    "with the plan": (HostProcess, "_fetch", 1, True),
    "with half of an update sent": (Line, "_once", 4, True),
    "before it hears that an update counts": (Line, "send_update", 2, True),
}


@pytest.mark.parametrize("phase", some(CLIENT_PHASES))
def test_a_third_of_the_clients_vanish_in_any_phase_and_the_rounds_go_on(
    phase: str, silos: Silos, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chunks, "CHUNK_B", 400)
    owner, name, call, after = CLIENT_PHASES[phase]
    monkeypatch.setattr(owner, name, dying("client", 1, tmp_path / "killed", getattr(owner, name), call, after=after))
    silos.changes = ("rounds=2", "lost_after_s=1.0", "deadline_s=3.0")
    silos.start_all()
    assert silos.wait("client-1", 20) == -signal.SIGKILL
    for task in ("server-0", "client-0", "client-2"):
        assert silos.wait(task, 20) == 0, silos.log(task)
    rounds = silos.rounds()
    assert len(rounds) == 2
    missing = [turn for record in rounds for turn in record.turns if turn.outcome is not Outcome.ACCEPTED]
    assert missing
    assert {turn.client % 3 for turn in missing} == {1}
    assert all(turn.reason in {"its host went silent", "sent nothing before the deadline"} for turn in missing)
    assert recomputed(rounds, *silos.changes) == [record.model for record in rounds]


def test_every_answer_that_is_lost_costs_a_chunk_and_no_update(silos: Silos, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunks, "CHUNK_B", 400)
    once, calls = Line._once, 0

    def cut(line: Line, method: str, path: str, body: bytes, encoding: str) -> bytes:
        nonlocal calls
        calls += 1
        found = once(line, method, path, body, encoding)
        if calls % 2 and "/rounds/" in path:  # the last word of all, "done", is said once
            raise ConnectionResetError("cut before the answer came")
        return found

    monkeypatch.setattr(Line, "_once", cut)
    silos.changes = ("rounds=1",)
    silos.start_all()
    for task in silos.processes:
        assert silos.wait(task, 20) == 0, silos.log(task)
    (record,) = silos.rounds()
    assert record.accepted == record.cohort
    assert recomputed([record], "rounds=1") == [record.model]


def test_clocks_that_are_wrong_keep_nobody_out(silos: Silos, monkeypatch: pytest.MonkeyPatch) -> None:
    """To a machine whose clock is decades ahead every certificate has run out; here all of them truly have."""
    monkeypatch.setattr(identity, "_UNTIL", datetime(2021, 1, 1, tzinfo=UTC))
    silos.start_all()
    assert silos.wait("server-0") == 0, silos.log("server-0")
