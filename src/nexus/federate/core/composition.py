"""Settings made into what runs: the algorithm with its layers around it, a sampler, and perhaps a defence.

Layers nest in a fixed order, from the inside outwards: what a client keeps for itself, what protects it, what a bad one
does, how it travels. So what is compressed has been protected before, and no order has to be known by heart.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, cast

from nexus.federate.core.algorithm import Algorithm, State, Vector
from nexus.federate.core.algorithms import build as build_algorithm
from nexus.federate.core.defence import Defence
from nexus.federate.core.draws import Draws, Sampling
from nexus.federate.core.parts import LAYERS, build, chosen
from nexus.federate.core.sampler import Sampler
from nexus.federate.core.seeds import derive
from nexus.federate.model import Round, Settings, Turn

if TYPE_CHECKING:
    from nexus.federate.core.stack import Stack
    from nexus.federate.core.total import Total

_DEFENCE = "defence."


@dataclass(frozen=True)
class Composition:
    """Everything that decides, built."""

    settings: Settings
    algorithm: Algorithm  # with its layers
    sampler: Sampler
    defence: Defence | None

    def begin(self, model: Vector, *, trainable: int, clients: int) -> State:
        """The state before the first round."""
        state = self.algorithm.begin(model, trainable=trainable, clients=clients)
        if self.defence is None:
            return state
        import numpy as np  # not by those who only read settings

        lengths = self.defence.keeps(self.algorithm.sends(state), clients)
        memory = {_DEFENCE + name: np.zeros(length, np.float32) for name, length in lengths.items()}
        return replace(state, extra=state.extra | memory)

    def cohort(self, state: State, past: Sequence[Round]) -> tuple[int, ...]:
        """The clients of the next round."""
        settings = self.settings
        return self.sampler.choose(settings.seed, state.number + 1, state.clients, settings.cohort, past)

    def totalled(self, state: State, came: Total | Stack, turns: Sequence[Turn]) -> tuple[State, Total, Sequence[Turn]]:
        """The round's total: as it was summed up, or what the defence makes of the updates, with its memory and notes.

        Raises UsageError when it cannot.
        """
        from nexus.federate.core.stack import Stack

        if self.defence is None or not isinstance(came, Stack):
            return state, cast("Total", came), turns
        memory = {name: v for name, v in state.extra.items() if name.startswith(_DEFENCE)}
        found = self.defence.combine(
            came,
            {name.removeprefix(_DEFENCE): vector for name, vector in memory.items()},
            derive(self.settings.seed, "defence", state.number + 1),
        )
        kept = state.extra | {_DEFENCE + name: vector for name, vector in found.memory.items()}
        noted = [replace(turn, notes=turn.notes | found.notes.get(turn.client, {})) for turn in turns]
        return replace(state, extra=kept), found.total, noted


def compose(settings: Settings, secret: Callable[[], bytes] | None = None) -> Composition:
    """What these settings mean; noise comes from `secret`, or follows from the seed.

    Raises NotFoundError for an unknown name, UsageError for a bad option.
    """
    parts = chosen(settings)
    sampler = build("sampler", parts["sampler"])
    draws = Draws(getattr(sampler, "sampling", Sampling.OTHER), settings.cohort, secret)
    algorithm = build_algorithm(settings.algorithm, settings.options)
    for family in LAYERS:
        if family in parts:
            algorithm = build(family, parts[family], inner=algorithm, seed=settings.seed, draws=draws)
    return Composition(
        settings=settings,
        algorithm=algorithm,
        sampler=sampler,
        defence=build("defence", parts["defence"]) if "defence" in parts else None,
    )
