"""The server's memory: what it has committed and accepted, on disk before anybody is told.

    state.safetensors          the state after the last committed round, with that round's record in its head
    rounds.jsonl               every committed round
    round-00007/               the open round: one frame for every accepted update, and the plan that clients fetch
      plan.safetensors
      update-3.safetensors

A round is committed by one rename, of `state.safetensors`. Everything else is derived from it or waits for it.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import msgspec
from safetensors import safe_open

from nexus.federate.adapters import frames
from nexus.federate.core.algorithm import State, Vectors
from nexus.federate.model import Round, Settings
from nexus.federate.protocol import PlanHead, UpdateHead
from nexus.kernel.errors import ConflictError, UsageError


@dataclass(frozen=True, slots=True, kw_only=True)
class _StateHead:
    """What `state.safetensors` says beside its vectors."""

    number: int
    trainable: int
    clients: int
    settings: Settings
    record: Round | None


class Journal:
    """One folder, one server at a time."""

    def __init__(self, folder: Path, settings: Settings) -> None:
        """Raises OSError."""
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self._settings = settings
        self._state = folder / "state.safetensors"
        self._rounds = folder / "rounds.jsonl"

    def load(self) -> tuple[State | None, list[Round]]:
        """What was committed; nothing in a new folder. Raises ConflictError if other settings made it."""
        if not self._state.exists():
            return None, []
        head = frames.read_head(self._state, _StateHead)
        if head.settings != self._settings:
            raise ConflictError(
                f"{self.folder} holds the rounds of other settings",
                hint="Give this run another folder (NEXUS_CHECKPOINTS), or remove that one.",
            )
        with safe_open(self._state, framework="numpy") as file:
            vectors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no dictionary)
        model = vectors.pop("model")
        extra = {name.removeprefix("extra."): vector for name, vector in vectors.items()}
        state = State(number=head.number, model=model, trainable=head.trainable, clients=head.clients, extra=extra)
        return state, self._load_rounds(head)

    def commit(self, state: State, *records: Round) -> None:
        """Make this the state that a restart goes on from, after `records`: those since the last time.

        Raises OSError: then the last one still is.
        """
        for earlier in records[:-1]:  # without the state they are not believed
            self._append(earlier)
        record = records[-1] if records else None
        head = _StateHead(
            number=state.number,
            trainable=state.trainable,
            clients=state.clients,
            settings=self._settings,
            record=record,
        )
        vectors = {"model": state.model} | {f"extra.{name}": vector for name, vector in state.extra.items()}
        frames.write(self._state, frames.pack(vectors, head))
        if record is not None:
            self._append(record)
            shutil.rmtree(self.round_folder(record.number), ignore_errors=True)

    def round_folder(self, number: int) -> Path:
        """Where the updates of a round are kept until it is committed."""
        return self.folder / f"round-{number:05d}"

    def update_path(self, number: int, client: int) -> Path:
        """Where an accepted update is kept."""
        return self.round_folder(number) / f"update-{client}.safetensors"

    def plan_path(self, number: int) -> Path:
        """The frame that every client of a round fetches."""
        return self.round_folder(number) / "plan.safetensors"

    def open_round(self, number: int, plan: Vectors, model: str) -> int:
        """Make a round's folder and the frame that its clients fetch; its size. Raises OSError."""
        self.round_folder(number).mkdir(exist_ok=True)
        data = frames.pack(plan, PlanHead(number=number, model=model))
        frames.write(self.plan_path(number), data)
        return len(data)

    def accepted(self, number: int) -> list[tuple[UpdateHead, int]]:
        """The open round's accepted updates after a restart, with their sizes; what cannot be read is no update."""
        found = []
        for path in sorted(self.round_folder(number).glob("update-*.safetensors")):
            try:
                found.append((frames.read_head(path, UpdateHead), path.stat().st_size))
            except UsageError:
                path.unlink()
        return found

    def _append(self, record: Round) -> None:
        with self._rounds.open("ab") as file:
            file.write(msgspec.json.encode(record) + b"\n")
            file.flush()
            os.fsync(file.fileno())

    def _load_rounds(self, head: _StateHead) -> list[Round]:
        """The committed rounds. The state is the truth: a crash may have kept its round out of the list, or torn it."""
        rounds: list[Round] = []
        lines = self._rounds.read_bytes().splitlines() if self._rounds.exists() else []
        for line in lines:
            try:
                record = msgspec.json.decode(line, type=Round)
            except msgspec.DecodeError:
                break
            if record.number == len(rounds) + 1 and record.number <= head.number:
                rounds.append(record)
        if head.record is not None and len(rounds) == head.number - 1:
            rounds.append(head.record)
        frames.write(self._rounds, b"".join(msgspec.json.encode(record) + b"\n" for record in rounds))
        return rounds
