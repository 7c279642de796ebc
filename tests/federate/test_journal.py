"""The journal after a crash at each of its steps."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from nexus.federate.adapters import frames
from nexus.federate.adapters.journal import Journal
from nexus.federate.core.algorithm import State
from nexus.federate.model import Round, Settings, Turn
from nexus.federate.protocol import UpdateHead
from nexus.kernel.errors import ConflictError, UsageError

SETTINGS = Settings(rounds=3, cohort=2)


def state(number: int) -> State:
    model = np.full(5, number, np.float32)
    return State(number=number, model=model, trainable=4, clients=2, extra={"control": model[:4] + 1})


def record(number: int) -> Round:
    return Round(number=number, turns=(Turn(client=0, samples=3),), metrics={"accuracy": 0.5})


@pytest.fixture
def journal(tmp_path) -> Journal:
    made = Journal(tmp_path / "j", SETTINGS)
    assert made.load() == (None, [])
    made.commit(state(0))
    made.commit(state(1), record(1))
    made.commit(state(2), record(2))
    return made


def again(journal: Journal) -> tuple[State | None, list[Round]]:
    return Journal(journal.folder, SETTINGS).load()


def test_what_was_committed_is_found_again(journal):
    found, rounds = again(journal)
    assert found is not None
    assert (found.number, found.trainable, found.clients) == (2, 4, 2)
    assert np.array_equal(found.model, state(2).model)
    assert np.array_equal(found.extra["control"], state(2).extra["control"])
    assert rounds == [record(1), record(2)]


def test_a_crash_between_the_state_and_the_list_of_rounds(journal):
    path = journal.folder / "rounds.jsonl"
    whole = path.read_bytes()
    for cut in (len(whole.splitlines()[0]) + 1, len(whole) - 7, 3 + len(whole.splitlines()[0])):
        path.write_bytes(whole[:cut])
        assert again(journal)[1] == [record(1), record(2)]
        assert path.read_bytes() == whole


def test_a_torn_write_of_the_state_leaves_the_last_one(journal):
    (journal.folder / "state.safetensors.part").write_bytes(b"half a sta")
    assert again(journal)[1] == [record(1), record(2)]


def test_accepted_updates_of_the_open_round_are_found_and_damaged_ones_are_not(journal):
    head = UpdateHead(number=3, client=1, model="m", samples=4, seconds=0.1, loss=None)
    journal.open_round(3, {"model": state(2).model}, "m")
    frames.write(journal.update_path(3, 1), frames.pack({"delta": state(2).model}, head))
    journal.update_path(3, 0).write_bytes(b"damaged")
    assert journal.accepted(3) == [(head, journal.update_path(3, 1).stat().st_size)]
    journal.commit(state(3), record(3))
    assert journal.accepted(3) == []
    assert not journal.round_folder(3).exists()


def test_rounds_of_other_settings_are_not_continued(journal):
    with pytest.raises(ConflictError, match="other settings"):
        Journal(journal.folder, replace(SETTINGS, seed=9)).load()


def test_a_damaged_state_is_said_not_ignored(journal):
    (journal.folder / "state.safetensors").write_bytes(b"x" * 100)
    with pytest.raises(UsageError, match="not a frame"):
        again(journal)
