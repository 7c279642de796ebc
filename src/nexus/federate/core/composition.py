"""Settings made into what runs: the algorithm with its layers around it, a sampler, and perhaps a defence.

Layers nest in a fixed order, from the inside outwards: what a client keeps for itself, what protects it, what a bad one
does, how it travels. So what is compressed has been protected before, and no order has to be known by heart.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from nexus.federate.core.algorithm import Algorithm, State, Vector
from nexus.federate.core.algorithms import build as build_algorithm
from nexus.federate.core.analytics import QUERIES
from nexus.federate.core.attack import Attack
from nexus.federate.core.capped import Capped
from nexus.federate.core.defence import Defence, Judge, Scene
from nexus.federate.core.draws import Draws, Sampling
from nexus.federate.core.options import make
from nexus.federate.core.parts import LAYERS, build, chosen
from nexus.federate.core.sampler import Sampler
from nexus.federate.core.schedule import Schedule
from nexus.federate.core.seeds import derive
from nexus.federate.model import Part, Round, Settings, Turn
from nexus.kernel.errors import UsageError

if TYPE_CHECKING:
    from nexus.federate.core.contribution.measure import Measure
    from nexus.federate.core.secure.coding import Coding
    from nexus.federate.core.secure.scheme import Scheme
    from nexus.federate.core.stack import Stack
    from nexus.federate.core.total import Total

_DEFENCE = "defence."


@dataclass(frozen=True)
class Composition:
    """Everything that decides, built."""

    settings: Settings
    algorithm: Algorithm  # with its layers
    sampler: Sampler
    schedule: Schedule
    defence: Defence | None
    attack: Attack | None = None  # among the layers, too
    contribution: Measure | None = None
    secure: Scheme | None = None
    judge: Judge | None = None

    @property
    def stacks(self) -> bool:
        """Whether a round's updates are needed beside each other, and not only their sum."""
        conspires = self.attack is not None and self.attack.conspires
        wanted = self.defence is not None or self.contribution is not None or self.secure is not None
        return wanted or conspires

    def coding(self, state: State, members: int) -> Coding:
        """How the updates of a secure round become words that add up."""
        assert self.secure is not None  # noqa: S101 (its caller has looked)
        return self.secure.coding(self.algorithm, self.algorithm.sends(state), members)

    def begin(self, model: Vector, *, trainable: int, clients: int) -> State:
        """The state before the first round."""
        state = self.algorithm.begin(model, trainable=trainable, clients=clients)
        if self.defence is None:
            return state
        import numpy as np  # not by those who only read settings

        lengths = self.defence.keeps(self.algorithm.sends(state), clients)
        memory = {_DEFENCE + name: np.zeros(length, np.float32) for name, length in lengths.items()}
        return replace(state, extra=state.extra | memory)

    def cohort(self, state: State, past: Sequence[Round], size: int = 0) -> tuple[int, ...]:
        """The clients of the next round; `size` 0: as many as the settings say."""
        settings = self.settings
        return self.sampler.choose(settings.seed, state.number + 1, state.clients, size or settings.cohort, past)

    def totalled(self, state: State, came: Total | Stack, turns: Sequence[Turn]) -> tuple[State, Total, Sequence[Turn]]:
        """The round's total: as it was summed up, or what the defence makes of the updates, with its memory and notes.

        Raises UsageError when it cannot.
        """
        from nexus.federate.core.stack import Stack

        if not isinstance(came, Stack):
            return state, came, turns
        if self.attack is not None:
            came = self.attack.conspire(came, state.number + 1)
        if self.contribution is not None:
            turns = _noted(turns, self.contribution.measure(came, self._game(state, came), self._scene(state, "share")))
        if self.secure is not None:  # in simulation, where there is nobody to hide from: the same sum, to the bit
            coding = self.coding(state, len(came))
            words = (coding.encode(row, weight) for row, weight in zip(came.rows, came.weights, strict=True))
            return state, coding.total(coding.add(words), len(came)), turns
        if self.defence is None:
            return state, came.total(), turns
        memory = {name: v for name, v in state.extra.items() if name.startswith(_DEFENCE)}
        found = self.defence.combine(
            came,
            {name.removeprefix(_DEFENCE): vector for name, vector in memory.items()},
            self._scene(state, "defence"),
        )
        kept = state.extra | {_DEFENCE + name: vector for name, vector in found.memory.items()}
        return replace(state, extra=kept), found.total, _noted(turns, found.notes)

    def _scene(self, state: State, purpose: str) -> Scene:
        number = state.number + 1
        seed = derive(self.settings.seed, purpose, number)
        return Scene(number=number, clients=state.clients, model=state.model, seed=seed, judge=self.judge)

    def _game(self, state: State, stack: Stack) -> Callable[[Vector], dict[str, float]]:
        """How good the model would be with other weights: 0 for those who are left out."""

        def play(weights: Vector) -> dict[str, float]:
            after = self.algorithm.advance(state, stack.total(weights)).model if weights.any() else state.model
            return self._scene(state, "share").eye().score(after)

        return play


_NOT_SECURE = {
    "defence": "a defence compares single updates, and here the server sees none",
    "contribution": "what each is worth shows in single updates, and here the server sees none",
    "compression": "masked updates have their full length, whatever is in them",
}
_SUM = 3  # of two, each knows the other's part


def _together(settings: Settings, parts: Mapping[str, Part]) -> None:
    """Raises UsageError for parts that exclude each other."""
    schedule: Schedule = build("schedule", parts["schedule"])
    if why := schedule.fits(settings):
        raise UsageError(f"schedule {parts['schedule'].name}: {why}", hint="Choose another schedule, or leave it out.")
    if "devices" in parts:
        build("devices", parts["devices"], seed=settings.seed)
    waits = parts["schedule"].name == "sync" and "devices" not in parts and not settings.trace
    for family in ("privacy", "secure_aggregation"):
        if family in parts and not waits:
            raise UsageError(
                f"{family} is worked out for rounds of everybody whom the sampler chose",
                hint="Leave out `schedule`, `devices` and `trace`.",
            )
    if "secure_aggregation" not in parts:
        return
    for family, why in _NOT_SECURE.items():
        if family in parts:
            raise UsageError(
                f"secure_aggregation and {family} exclude each other: {why}", hint="Leave one of them out."
            )
    if settings.cohort < _SUM:
        raise UsageError(f"secure_aggregation needs a cohort of {_SUM} or more", hint=f"cohort={_SUM}, or many more.")


def _noted(turns: Sequence[Turn], notes: Mapping[int, Mapping[str, float]]) -> list[Turn]:
    return [replace(turn, notes=turn.notes | dict(notes.get(turn.client, {}))) for turn in turns]


def compose(settings: Settings, secret: Callable[[], bytes] | None = None) -> Composition:
    """What these settings mean; noise comes from `secret`, or follows from the seed.

    Raises NotFoundError for an unknown name, UsageError for a bad option.
    """
    parts = chosen(settings)
    _together(settings, parts)
    sampler = build("sampler", parts["sampler"])
    draws = Draws(getattr(sampler, "sampling", Sampling.OTHER), settings.cohort, secret)
    if settings.query is not None:
        algorithm: Algorithm = make(QUERIES.get(settings.query.name), settings.query.name, settings.query.options)
    else:
        algorithm = build_algorithm(settings.algorithm, settings.options)
    if settings.samples_cap:
        algorithm = Capped(settings.samples_cap, inner=algorithm)
    attack = None
    for family in LAYERS:
        if family in parts:
            algorithm = build(family, parts[family], inner=algorithm, seed=settings.seed, draws=draws)
            attack = algorithm if isinstance(algorithm, Attack) else attack
    return Composition(
        settings=settings,
        algorithm=algorithm,
        sampler=sampler,
        schedule=build("schedule", parts["schedule"]),
        defence=build("defence", parts["defence"]) if "defence" in parts else None,
        attack=attack,
        contribution=build("contribution", parts["contribution"]) if "contribution" in parts else None,
        secure=build("secure_aggregation", parts["secure_aggregation"]) if "secure_aggregation" in parts else None,
    )
