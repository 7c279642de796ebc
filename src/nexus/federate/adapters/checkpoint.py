"""What a simulation is gone on from: the state after a round, the rounds until then, and what clients keep.

    checkpoint/state.safetensors, rounds.jsonl     as in a server's journal
    checkpoint/kept-7-00012.safetensors            what client 7 kept, as of a checkpoint after round 12

A checkpoint counts from the moment its state is in place. What clients keep is written before that under its own round,
so that a crash in between leaves the last checkpoint whole; going on from it gives the same bits as never stopping.
"""

from __future__ import annotations

import shutil
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from nexus.federate.adapters import frames
from nexus.federate.adapters.journal import Journal
from nexus.federate.core.algorithm import State, Vectors
from nexus.federate.core.total import Array
from nexus.federate.model import Round, Settings
from nexus.kernel.clock import Clock
from nexus.kernel.errors import ConflictError

_PART = 0.05  # of the time at most goes into checkpoints
_LEAST_S = 0.5  # between two of them


class Keeper(Protocol):
    """An engine, as far as it holds what clients keep."""

    def kept(self, client: int) -> Vectors:
        """What a client keeps."""
        ...

    def restore(self, client: int, vectors: Mapping[str, Array]) -> None:
        """Let a client have kept this."""
        ...


@dataclass(frozen=True, slots=True)
class _KeptHead:
    """Whose it is, and after which round."""

    client: int
    number: int


class Checkpoint:
    """One simulation's, in `folder`. More rounds may be asked for when it goes on; all else must be as it was."""

    def __init__(self, folder: Path, settings: Settings, clock: Clock, *, resume: bool) -> None:
        """Raises OSError. Without `resume`, what another simulation left there is removed."""
        if not resume and folder.exists():
            shutil.rmtree(folder)
        self._folder = folder
        self._journal = Journal(folder, replace(settings, rounds=0))
        self._clock = clock
        self._saved_at, self._took = clock.monotonic(), 0.0
        self._rounds = 0  # that are in it
        self._dirty: set[int] = set()  # clients who took part since

    def load(self, start: State, keeps: Mapping[str, int], engine: Keeper) -> tuple[State, list[Round]]:
        """Where to go on, with what clients keep put in place; at the start if there is nothing.

        Raises ConflictError when it was made with other settings or another task.
        """
        state, rounds = self._journal.load()
        if state is None:
            return start, []
        if (len(state.model), state.trainable, state.clients) != (len(start.model), start.trainable, start.clients):
            raise ConflictError(
                f"{self._folder} holds the rounds of another task", hint="Choose another --out, or leave --resume away."
            )
        if len(rounds) != state.number:
            raise ConflictError(
                f"{self._folder} has {len(rounds)} of {state.number} rounds", hint="Leave --resume away: start anew."
            )
        for client, paths in self._files().items():
            known = [number for number in paths if number <= state.number]
            if known:
                engine.restore(client, frames.read(paths[max(known)], keeps))
        self._rounds = state.number
        return state, rounds

    def note(self, state: State, rounds: Sequence[Round], keeps: bool, engine: Keeper) -> None:
        """A round ended: save everything, unless the last time is so near that it would cost too much.

        Raises OSError: then the last checkpoint still counts.
        """
        self._dirty.update(rounds[-1].cohort)
        began = self._clock.monotonic()
        if began - self._saved_at < max(_LEAST_S, self._took / _PART):
            return
        if keeps:
            for client in sorted(self._dirty):
                head = _KeptHead(client, state.number)
                frames.write(self._path(client, state.number), frames.pack(engine.kept(client), head))
        self._journal.commit(state, *rounds[self._rounds :])
        self._forget_older(state.number)
        self._rounds, self._dirty = len(rounds), set()
        self._saved_at = self._clock.monotonic()
        self._took = self._saved_at - began

    def remove(self) -> None:
        """The simulation is over."""
        shutil.rmtree(self._folder, ignore_errors=True)

    def _path(self, client: int, number: int) -> Path:
        return self._folder / f"kept-{client}-{number:05d}.safetensors"

    def _files(self) -> dict[int, dict[int, Path]]:
        """By client and round."""
        found: defaultdict[int, dict[int, Path]] = defaultdict(dict)
        for path in self._folder.glob("kept-*.safetensors"):
            _, client, number = path.stem.split("-")
            found[int(client)][int(number)] = path
        return found

    def _forget_older(self, number: int) -> None:
        for paths in self._files().values():
            newest = max((one for one in paths if one <= number), default=number)
            for one, path in paths.items():
                if one != newest:
                    path.unlink()
