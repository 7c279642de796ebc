"""The parts around an algorithm: every one of the tables does something, and what it says it does."""

from __future__ import annotations

from dataclasses import replace

import pytest

from nexus.federate.core.options import options_of
from nexus.federate.core.parts import FAMILIES, build
from nexus.federate.core.settings import check, override
from nexus.federate.model import Part, Settings
from nexus.federate.simulation import Simulation, simulate
from nexus.kernel.errors import NotFoundError, UsageError

pytestmark = pytest.mark.torch
EVERY = [(family, name) for family, table in FAMILIES.items() for name in table]


def run(task, workers: int = 1, /, **changes: object) -> Simulation:
    return simulate(task, replace(task.settings, **changes), workers=workers)


@pytest.mark.parametrize(("family", "name"), EVERY)
def test_a_part_repeats_itself_for_any_number_of_workers(family, name, digits):
    changes = {family: Part(name)}
    one = run(digits, rounds=2, **changes)
    two = run(digits, 2, rounds=2, **changes)
    assert [record.model for record in one.rounds] == [record.model for record in two.rounds]


@pytest.mark.parametrize(("family", "name"), EVERY)
def test_an_option_that_is_not_there_is_refused_with_those_that_are(family, name):
    with pytest.raises(UsageError, match="no option") as caught:
        build(family, Part(name, {"nonsense": 1.0}))
    for option in options_of(FAMILIES[family].get(name)):
        assert option in caught.value.hint


def test_parts_are_chosen_by_name_and_changed_by_option():
    changed = override(Settings(), {"defence": "median", "attack": "sign_flip", "attack.scale": "3"})
    assert (changed.defence, changed.attack) == (Part("median"), Part("sign_flip", {"scale": 3.0}))
    assert override(changed, {"defence": "none"}).defence is None
    with pytest.raises(UsageError, match="always a sampler"):
        override(Settings(), {"sampler": "none"})
    with pytest.raises(UsageError, match="needs a compression"):
        override(Settings(), {"compression.part": "0.1"})
    with pytest.raises(NotFoundError):
        check(Settings(defence=Part("krumm")), 20)


def test_the_median_holds_where_the_mean_falls(digits):
    attack = Part("sign_flip", {"part": 0.2, "scale": 4.0})
    fallen = run(digits, attack=attack).rounds[-1].metrics["accuracy"]
    held = run(digits, attack=attack, defence=Part("median")).rounds[-1].metrics["accuracy"]
    assert held > fallen + 0.3
