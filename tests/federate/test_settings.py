"""Settings from the command line: what can be set, and what is said about what cannot."""

from __future__ import annotations

import subprocess
import sys

import pytest

from nexus.federate.core.algorithms import ALGORITHMS, build, options_of
from nexus.federate.core.seeds import choose_cohort, derive
from nexus.federate.core.settings import check, on_nodes, override
from nexus.federate.model import Local, Settings
from nexus.kernel.errors import NexusError, NotFoundError, UsageError


def test_paths_reach_every_setting():
    changed = override(
        Settings(),
        {"algorithm.mu": "0.5", "algorithm": "fedprox", "rounds": "3", "local.lr": "0.02", "local.epochs": "4"},
    )
    assert changed == Settings(rounds=3, algorithm="fedprox", options={"mu": 0.5}, local=Local(lr=0.02, epochs=4))


def test_another_algorithm_drops_the_options_of_the_last():
    assert override(Settings(algorithm="fedprox", options={"mu": 1.0}), {"algorithm": "fedavg"}).options == {}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"round": "3"}, "Did you mean rounds?"),
        ({"local.learning": "3"}, "local.lr"),
        ({"rounds": "many"}, "--set rounds=1"),
        ({"rounds": "1.5"}, "--set rounds=1"),
    ],
)
def test_wrong_paths_and_numbers_have_a_next_step(changes, said):
    with pytest.raises(UsageError) as caught:
        override(Settings(), changes)
    assert said in caught.value.hint


@pytest.mark.parametrize(
    "settings",
    [
        Settings(rounds=0),
        Settings(cohort=21),
        Settings(quorum=0.0),
        Settings(local=Local(lr=-1.0)),
        Settings(local=Local(lr=float("nan"))),
        Settings(options={"mu": 1.0}),
        Settings(algorithm="fedprox", options={"mu": -1.0}),
        Settings(algorithm="fedadam", options={"beta1": 1.0}),
        Settings(algorithm="fedagv"),
    ],
)
def test_impossible_settings_are_refused(settings):
    with pytest.raises(NexusError) as caught:
        check(settings, clients=20)
    assert caught.value.hint


@pytest.mark.parametrize(
    "changes", [{"schedule": "buffered"}, {"schedule.over": "2", "devices": "random"}, {"trace": "devices.csv"}]
)
def test_real_nodes_refuse_what_is_simulated(changes):
    assert on_nodes(Settings()) == Settings()
    with pytest.raises(UsageError, match="for simulation"):
        on_nodes(override(Settings(), changes))


def test_a_wrong_option_names_the_right_ones():
    with pytest.raises(UsageError) as caught:
        build("fedprox", {"nu": 1.0})
    assert "mu" in caught.value.hint
    with pytest.raises(NotFoundError):
        build("nope", {})
    assert options_of("fedprox") == {"lr": 1.0, "mu": 0.01}


def test_seeds_and_cohorts_are_functions_of_their_names():
    assert derive(7, "a", 1) == derive(7, "a", 1) != derive(7, "a", 2)
    assert derive(7, "1") != derive(7, 1)
    assert derive(7, "a", "b") != derive(7, "a/str:b"[:1])
    cohorts = [choose_cohort(7, number, 100, 10) for number in range(50)]
    assert cohorts == [choose_cohort(7, number, 100, 10) for number in range(50)]
    assert all(len(set(cohort)) == 10 and list(cohort) == sorted(cohort) for cohort in cohorts)
    assert len({client for cohort in cohorts for client in cohort}) > 90, "everybody's turn comes"


def test_the_door_and_the_tables_need_neither_numpy_nor_torch():
    code = (
        "import sys, nexus.federate, nexus.federate.core.jobsection as j;"
        "from nexus.federate.core.algorithms import ALGORITHMS, build;"
        "[build(name, {}) for name in ALGORITHMS];"
        "import nexus.federate.service, nexus.federate.faces.api, nexus.federate.faces.commands.federate;"
        "print([m for m in ('numpy', 'torch', 'safetensors') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_every_file_of_an_algorithm_is_in_the_table():
    from pathlib import Path

    import nexus.federate.core.algorithms as package

    files = {path.stem for path in Path(package.__file__).parent.glob("*.py")} - {"__init__"}
    assert files == {target.partition(":")[0].rpartition(".")[2] for target in ALGORITHMS.table.values()}


@pytest.mark.parametrize("other", ["defence=median", "compression=top_k"])
def test_what_needs_single_updates_does_not_go_with_secure_aggregation(other):
    family, _, name = other.partition("=")
    with pytest.raises(UsageError, match=f"secure_aggregation and {family} exclude each other: "):
        check(override(Settings(), {"secure_aggregation": "secagg", family: name}), clients=20)
    with pytest.raises(UsageError, match="cohort of 3"):
        check(override(Settings(), {"secure_aggregation": "secagg", "cohort": "2"}), clients=20)
