"""Every algorithm against its paper's equation, with numbers worked out by hand.

The client's loss is (a/2) (w - c)^2 in one parameter, so its gradient a (w - c) and every step are known exactly.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from nexus.federate.core.algorithm import Adjust, Algorithm, Fit, Gradient, State, Step
from nexus.federate.core.algorithms import build
from nexus.federate.core.total import Array, Total


def vector(*values: float) -> Array:
    return np.array(values, np.float32)


@dataclass
class Bowl:
    """A trainer on one such loss: `steps` steps of rate `lr`."""

    centre: float
    slope: float = 1.0
    steps: int = 1
    lr: float = 0.1
    client: int = 0
    number: int = 1
    samples: int = 1

    @property
    def data(self) -> tuple[object, object]:
        raise AssertionError("nothing is looked at")

    def dice(self, purpose: str) -> object:
        raise AssertionError("nothing is drawn")

    def swap(self, change: object) -> None:
        raise AssertionError("nothing is swapped")

    def fit(self, start: Array, adjust: Adjust | None = None, *, anchor: Array | None = None) -> Fit:
        at = start.copy()
        for _ in range(self.steps):
            gradient = self.slope * (at - self.centre)
            if anchor is not None:
                gradient -= self.slope * (anchor - self.centre)
            if adjust is not None:
                adjust(at, gradient)
            at = at - np.float32(self.lr) * gradient
        delta = at - start
        return Fit(delta, delta, self.steps, 0.0, self.lr)

    def gradient(self, at: Array) -> Gradient:
        found = self.slope * (at - self.centre)
        return Gradient(found, found, float(self.slope / 2 * (at[0] - self.centre) ** 2))


def begun(algorithm: Algorithm, at: float = 1.0, clients: int = 2) -> State:
    return algorithm.begin(vector(at), trainable=1, clients=clients)


def advanced(algorithm: Algorithm, state: State, *updates: Step, weights: tuple[float, ...] = ()) -> State:
    total = Total(algorithm.sends(state))
    for step, weight in zip(updates, weights or [1.0] * len(updates), strict=True):
        total.absorb(step.send, weight)
    return algorithm.advance(state, total)


def pushed(algorithm: Algorithm, *changes: float) -> list[State]:
    """The states after rounds with these mean changes."""
    state, states = begun(algorithm), []
    for change in changes:
        state = advanced(algorithm, state, Step({"delta": vector(change)}, 0.0))
        states.append(state)
    return states


def test_fedsgd_is_one_step_of_gradient_descent_on_all_data():
    algorithm = build("fedsgd", {"lr": 0.5})
    state = begun(algorithm)
    steps = [algorithm.local(algorithm.plan(state), Bowl(c, samples=n), {}) for c, n in ((0.0, 3), (3.0, 1))]
    # gradients 1 and -2, weighted 3 : 1, so their mean is 0.25
    assert advanced(algorithm, state, *steps, weights=(3.0, 1.0)).model == pytest.approx([1 - 0.5 * 0.25])


def test_fedavgm_adds_up_momentum():
    states = pushed(build("fedavgm", {"momentum": 0.9, "lr": 0.5}), 1.0, 1.0)
    assert states[0].model == pytest.approx([1.5])
    assert states[1].model == pytest.approx([1.5 + 0.5 * 1.9])  # v = 0.9 + 1


def test_fedadagrad_adds_up_squares():
    states = pushed(build("fedadagrad", {"lr": 0.1, "beta1": 0.5, "tau": 0.1}), 0.2, 0.2)
    assert states[0].model == pytest.approx([1 + 0.1 * 0.1 / (0.05**0.5 + 0.1)])  # v = 0.01 + 0.04
    second = 0.1 * 0.15 / (0.09**0.5 + 0.1)  # m = 0.05 + 0.1; v = 0.05 + 0.04
    assert states[1].model[0] - states[0].model[0] == pytest.approx(second, rel=1e-4)


def test_fedyogi_grows_and_shrinks_by_the_same_steps():
    algorithm = build("fedyogi", {"lr": 0.1, "beta1": 0.5, "beta2": 0.9, "tau": 0.1})
    states = pushed(algorithm, 0.2, 0.1)
    # v0 = 0.01 < D^2 = 0.04: v = 0.01 + 0.1 * 0.04; then 0.014 > 0.01: v = 0.014 - 0.1 * 0.01
    assert states[0].extra["variance"] == pytest.approx([0.014])
    assert states[1].extra["variance"] == pytest.approx([0.013])
    assert states[0].model == pytest.approx([1 + 0.1 * 0.1 / (0.014**0.5 + 0.1)])


def test_fedadam_forgets_squares():
    states = pushed(build("fedadam", {"lr": 0.1, "beta1": 0.5, "beta2": 0.9, "tau": 0.1}), 0.2, 0.1)
    assert states[0].extra["variance"] == pytest.approx([0.9 * 0.01 + 0.1 * 0.04])
    assert states[1].extra["variance"] == pytest.approx([0.9 * 0.013 + 0.1 * 0.01])


def test_fednova_makes_the_mean_number_of_steps_along_the_mean_step():
    algorithm = build("fednova", {"lr": 1.0})
    state = begun(algorithm, at=0.0)
    short, long = (algorithm.local(algorithm.plan(state), Bowl(c, steps=s), {}) for c, s in ((-1.0, 1), (1.0, 2)))
    assert short.send["delta"] == pytest.approx([-0.1])
    assert long.send["delta"] == pytest.approx([(0.1 + 0.09) / 2])  # 0 -> 0.1 -> 0.19
    # p = 1/4, 3/4: tau = 1.75; mean step = -0.025 + 0.07125
    after = advanced(algorithm, state, short, long, weights=(1.0, 3.0))
    assert after.model == pytest.approx([1.75 * 0.04625], rel=1e-5)


def test_feddyn_bends_the_loss_and_remembers():
    algorithm = build("feddyn", {"alpha": 0.5})
    state = begun(algorithm, clients=4)
    step = algorithm.local(algorithm.plan(state), Bowl(0.0, steps=2), {"dual": vector(0.2)})
    # 1 -> gradient 1 - 0.2 + 0 = 0.8 -> 0.92 -> gradient 0.92 - 0.2 + 0.5 * (0.92 - 1) = 0.68 -> 0.852
    assert step.send["delta"] == pytest.approx([-0.148])
    assert step.keep["dual"] == pytest.approx([0.2 + 0.5 * 0.148])
    after = advanced(algorithm, state, step)
    # h = 0.5 * (1/4) * 0.148 = 0.0185; x = 0.852 - h / 0.5
    assert after.extra["dual"] == pytest.approx([0.0185])
    assert after.model == pytest.approx([0.852 - 0.037])


def test_mimelite_steps_with_the_servers_momentum():
    algorithm = build("mimelite", {"beta": 0.5, "lr": 1.0})
    plan = {"model": vector(1.0), "momentum": vector(0.4)}
    step = algorithm.local(plan, Bowl(0.0, steps=2), {})
    # 1 -> 1 - 0.1 (0.5 + 0.2) = 0.93 -> 0.93 - 0.1 (0.465 + 0.2) = 0.8635
    assert step.send["delta"] == pytest.approx([-0.1365])
    assert step.send["gradient"] == pytest.approx([1.0])
    state = State(number=0, model=vector(1.0), trainable=1, clients=2, extra={"momentum": vector(0.4)})
    after = advanced(algorithm, state, step)
    assert after.extra["momentum"] == pytest.approx([0.5 * 1.0 + 0.5 * 0.4])
    assert after.model == pytest.approx([0.8635])


def test_mime_takes_the_clients_own_gradient_out_and_everybodys_in():
    algorithm = build("mime", {"beta": 0.5, "lr": 1.0})
    plan = {"model": vector(1.0), "momentum": vector(0.4), "gradient": vector(0.6)}
    step = algorithm.local(plan, Bowl(0.0, steps=2), {})
    # 1: g = 1 - 1 + 0.6, step 0.5 * 0.6 + 0.2 = 0.5 -> 0.95: g = 0.95 - 1 + 0.6, step 0.275 + 0.2 -> 0.9025
    assert step.send["delta"] == pytest.approx([-0.0975])
    first = algorithm.local(plan | {"gradient": vector(0.0)}, Bowl(0.0, steps=2), {})
    assert first.send["delta"] == pytest.approx([-0.1365]), "as MimeLite while nothing is known"


def test_qfedavg_weighs_by_loss():
    algorithm = build("qfedavg", {"q": 1.0})
    state = begun(algorithm)
    near, far = (algorithm.local(algorithm.plan(state), Bowl(c), {}) for c in (0.0, 3.0))
    # losses 1/2 and 2; L = 10; L (x - w) = 1 and -2; D = 1/2 and -4; h = 1 + 5 and 4 + 20
    assert near.send["delta"] == pytest.approx([-0.5])
    assert far.send["delta"] == pytest.approx([4.0])
    assert (near.send["curvature"][0], far.send["curvature"][0]) == pytest.approx((6.0, 24.0))
    assert advanced(algorithm, state, near, far).model == pytest.approx([1 + 3.5 / 30])


def test_qfedavg_without_q_is_the_plain_mean():
    algorithm = build("qfedavg", {"q": 0.0})
    state = begun(algorithm)
    steps = [algorithm.local(algorithm.plan(state), Bowl(c), {}) for c in (0.0, 3.0)]
    assert advanced(algorithm, state, *steps).model == pytest.approx([1 + (-0.1 + 0.2) / 2])
