"""Rounds without a server: every client has a model of its own, trains it, and averages with its neighbours.

Lian et al., Can Decentralized Algorithms Outperform Centralized Algorithms?, 2017 (DSGD), in the order adapt, then
combine: y_i = x_i + D_i; x_i = sum_j W_ij y_j, where W is symmetric and its rows sum up to 1 (Metropolis weights).
PushSum (Assran et al., Stochastic Gradient Push, 2019) needs no symmetry: senders share out x_i and a mass w_i, and
clients train at z_i = x_i / w_i.

The model of a round is the mean over all clients, and `consensus` how far they are from it: the root of the mean
squared distance. Only the round's cohort trains and talks; whom each one talks to is drawn among it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from nexus.federate.core.algorithm import State, Vector
from nexus.federate.core.schedule import MEMORY, Ended, Ground, clock, forget, gather, in_order, noted, present
from nexus.federate.core.seeds import derive
from nexus.federate.model import Round, Settings, Turn
from nexus.kernel.errors import UsageError

if TYPE_CHECKING:
    from nexus.federate.core.mixing import Matrix

_MODELS, _MASS = MEMORY + "models", MEMORY + "mass"
_ALONE = ("fedavg", "fedprox")  # algorithms that keep nothing on a server


@dataclass(frozen=True)
class Gossip:
    """What every way to gossip shares; it says who hears whom, and with what weight."""

    def fits(self, settings: Settings) -> str:
        if settings.algorithm not in _ALONE:
            return f"{settings.algorithm} keeps something on a server, and here is none: use {' or '.join(_ALONE)}"
        if settings.compression or settings.defence or settings.contribution:
            return "compression, defence and contribution are of what a server gets, and here is none"
        return ""

    def mixing(self, size: int, seed: int) -> Matrix:
        """Row i: what part of each one's model goes into the model of i."""
        raise NotImplementedError

    def run(self, ground: Ground, state: State, past: Sequence[Round]) -> Iterator[Ended]:
        import numpy as np  # not by those who only read settings

        if _MODELS not in state.extra:
            memory = {_MODELS: np.tile(state.model, state.clients), _MASS: np.ones(state.clients, np.float32)}
            state = replace(state, extra=state.extra | memory)
        while True:
            number = state.number + 1
            asked, at = present(ground, ground.composition.cohort(state, past), number, clock(past), state.clients)
            found = gather(ground, asked, len(asked), number, at).enough()
            models = state.extra[_MODELS].reshape(state.clients, -1).copy()
            mass = state.extra[_MASS].copy()
            members = list(found.members)
            matrix = self.mixing(len(members), derive(ground.settings.seed, "gossip", number))
            turns = self._adapt(ground, state, members, models, mass)
            models[members] = matrix @ models[members]
            mass[members] = matrix @ mass[members]
            turns = _talked(turns, members, matrix, models[0].nbytes)
            model = (models.sum(axis=0, dtype=np.float64) / float(mass.sum(dtype=np.float64))).astype(np.float32)
            apart = models / mass[:, None] - model
            consensus = float(np.sqrt((apart.astype(np.float64) ** 2).sum(axis=1).mean()))
            extra = state.extra | {_MODELS: models.reshape(-1), _MASS: mass}
            state = replace(state, number=number, model=model, extra=extra)
            yield Ended(state, in_order([*turns, *found.dropped]), noted(ground, found.at, consensus=consensus))

    def _adapt(self, ground: Ground, state: State, members: Sequence[int], models: Any, mass: Vector) -> list[Turn]:
        """Let each train its own model."""
        algorithm = ground.composition.algorithm
        turns: list[Turn] = []
        for client in members:
            own = replace(forget(state), model=models[client] / mass[client])
            came, turned = ground.train(state.number + 1, algorithm.plan(own), [client])
            after, latest = ground.advance(own, came, turned)
            models[client] += after.model - own.model
            turns += latest
        return turns


def _talked(turns: Sequence[Turn], members: Sequence[int], matrix: Matrix, model_b: int) -> list[Turn]:
    """Nothing went to a server: what a turn moved is its model, once to each who hears it, and theirs."""
    place = {client: at for at, client in enumerate(members)}
    heard = (matrix > 0).sum(axis=1) - 1
    told = (matrix > 0).sum(axis=0) - 1
    return [
        replace(
            turn,
            bytes_down=int(heard[place[turn.client]]) * model_b,
            bytes_up=int(told[place[turn.client]]) * model_b,
        )
        for turn in turns
    ]


@dataclass(frozen=True)
class Ring(Gossip):
    """Each averages with the two beside it."""

    def mixing(self, size: int, seed: int) -> Matrix:
        from nexus.federate.core.mixing import metropolis

        return metropolis(size, [(i, (i + 1) % size) for i in range(size)])


@dataclass(frozen=True)
class RandomGraph(Gossip):
    """Each averages with `degree` others and more, drawn anew in every round."""

    degree: int = 2

    def __post_init__(self) -> None:
        """Raises UsageError."""
        if self.degree < 1:
            raise UsageError("schedule.degree must be 1 or more", hint="2 is a good place to begin.")

    def mixing(self, size: int, seed: int) -> Matrix:
        from nexus.federate.core.mixing import metropolis, peers

        pairs = peers(size, self.degree, seed)
        return metropolis(size, [(i, j) for i, others in enumerate(pairs) for j in others])


@dataclass(frozen=True)
class Complete(Gossip):
    """Each averages with all the others."""

    def mixing(self, size: int, seed: int) -> Matrix:
        from nexus.federate.core.mixing import metropolis

        return metropolis(size, [(i, j) for i in range(size) for j in range(i)])


@dataclass(frozen=True)
class PushSum(RandomGraph):
    """Each sends its share to `degree` others, drawn anew in every round, and need not hear from them."""

    degree: int = 1

    def mixing(self, size: int, seed: int) -> Matrix:
        from nexus.federate.core.mixing import peers, pushed

        return pushed(size, peers(size, self.degree, seed))
