"""Attacks: each does the harm it says it does, to clients that are bad and to no others; planted patterns win."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from nexus.federate.adapters.loader import load_task
from nexus.federate.core.attacks import ATTACKS
from nexus.federate.core.attacks.backdoor import Backdoor
from nexus.federate.core.attacks.ipm import Ipm
from nexus.federate.core.attacks.label_flip import LabelFlip
from nexus.federate.core.attacks.lie import Lie
from nexus.federate.core.seeds import is_bad
from nexus.federate.core.stack import Stack
from nexus.federate.core.worker import Worker
from nexus.federate.model import Part
from nexus.federate.simulation import simulate
from nexus.infra.clock import SystemClock
from nexus.kernel.errors import UsageError
from tests.federate.tasks import REPOSITORY

pytestmark = pytest.mark.torch
PART = 0.3
BAD = next(client for client in range(20) if is_bad(7, client, PART))
GOOD = next(client for client in range(20) if not is_bad(7, client, PART))


def sent(task, client: int, attack: str | None, number: int = 1, kept=None, **options: float):
    part = Part(attack, {"part": PART, **options}) if attack else None
    worker = Worker(task, replace(task.settings, attack=part), SystemClock())
    state = worker.begin()
    lengths = worker.algorithm.keeps(state)
    memory = kept or {name: np.zeros(length, np.float32) for name, length in lengths.items()}
    _, step = worker.turn(number, client, worker.algorithm.plan(state), memory)
    return step.send["delta"].copy(), step.keep


@pytest.mark.parametrize("name", [name for name in ATTACKS if not getattr(ATTACKS.get(name), "conspires", False)])
def test_only_bad_clients_are_bad(name, digits):
    assert (sent(digits, GOOD, name)[0] == sent(digits, GOOD, None)[0]).all()
    if name != "lazy":  # it trains in its first round
        assert (sent(digits, BAD, name)[0] != sent(digits, BAD, None)[0]).any()


def test_what_liars_send(digits):
    honest = sent(digits, BAD, None)[0]
    np.testing.assert_allclose(sent(digits, BAD, "sign_flip", scale=2.0)[0], honest * -2, rtol=1e-5)
    assert not sent(digits, BAD, "zero")[0].any()
    noise = sent(digits, BAD, "random", scale=3.0)[0]
    assert np.linalg.norm(noise) == pytest.approx(3 * np.linalg.norm(honest), rel=1e-3)
    assert abs(np.corrcoef(noise, honest)[0, 1]) < 0.05


def test_the_lazy_send_the_old_again(digits):
    first, kept = sent(digits, BAD, "lazy", noise=0.0)
    again, _ = sent(digits, BAD, "lazy", number=2, kept=kept, noise=0.0)
    assert (again == first).all()
    assert (sent(digits, BAD, None, number=2)[0] != first).any()


def test_labels_are_flipped_and_the_clients_own_stay():
    y = torch.tensor([0, 7, 9])
    assert LabelFlip(classes=10).tampered(None, y, None)[1].tolist() == [9, 2, 0]
    assert LabelFlip().tampered(None, y + 1, None)[1].tolist() == [10, 3, 1], "a client's own labels only"
    assert LabelFlip(source=7, target=1).tampered(None, y, None)[1].tolist() == [0, 1, 9]
    assert y.tolist() == [0, 7, 9]
    with pytest.raises(UsageError):
        LabelFlip(source=7)


def test_a_mark_is_in_the_corner_and_probes_leave_out_what_is_the_target_anyway():
    x, y = torch.zeros(3, 1, 8, 8), torch.tensor([0, 4, 5])
    marked, wanted = Backdoor(size=2).probe(x, y)
    assert wanted.tolist() == [0, 0]
    assert marked[..., -2:, -2:].min() == 1.0
    assert marked.sum() == 2 * 4
    assert x.sum() == 0


def test_what_those_send_who_know_the_others():
    honest = Stack(range(3), [1.0] * 3, [{"delta": np.array([v, 1.0], np.float32)} for v in (1.0, 2.0, 3.0)])
    assert Ipm(scale=0.5).conspired(honest, 4, 1) == pytest.approx([-1.0, -0.5])
    deviation = np.std([1.0, 2.0, 3.0])
    assert Lie(z=1.5).conspired(honest, 4, 1) == pytest.approx([2 - 1.5 * deviation, 1.0])
    # the paper's example, section 3.2: 50 workers of which 24 are bad: s = 2, Phi(z) = 24/26, z = 1.43
    sent = Lie().conspired(honest, 50, 24)
    assert sent[0] == pytest.approx(2 - 1.43 * deviation, abs=0.01)


def test_attacks_harm_and_a_pattern_is_planted_beside_good_accuracy():
    task = load_task(REPOSITORY / "bench" / "federate_robust.py")

    def run(attack: str | None, defence: str | None = None) -> dict[str, float]:
        parts: dict[str, Any] = {
            "attack": Part(attack) if attack else None,
            "defence": Part(defence) if defence else None,
        }
        return simulate(task, replace(task.settings, **parts), workers=1).rounds[-1].metrics

    quiet = run(None)
    assert quiet["accuracy"] > 0.88
    for name in ("replacement", "ipm"):
        assert run(name)["accuracy"] < quiet["accuracy"] - 0.3, name
        for defence in ("geometric_median", "three_sigma", "fltrust", "zeno"):
            assert run(name, defence)["accuracy"] > quiet["accuracy"] - 0.05, (name, defence)
    planted = run("backdoor")
    assert planted["attack_success"] > 0.9
    assert planted["accuracy"] > quiet["accuracy"] - 0.03, "nobody sees it in the accuracy"
    for defence in ("median", "robust_lr", "foolsgold", "zeno", "fltrust"):
        assert run("backdoor", defence)["attack_success"] < 0.3, defence


@pytest.mark.parametrize("name", list(ATTACKS))
def test_nobody_bad_is_no_attack(name, digits):
    settings = replace(digits.settings, rounds=1)
    quiet = simulate(digits, settings, workers=1)
    none = simulate(digits, replace(settings, attack=Part(name, {"part": 0.0})), workers=1)
    assert none.rounds[0].model == quiet.rounds[0].model
