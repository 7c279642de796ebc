"""FedML's configs: known keys count, unknown ones are named, and nothing is replaced in silence."""

from __future__ import annotations

import json

import pytest

from nexus.federate.core.fedml import Reading, read_fedml
from nexus.federate.model import Local, Part
from nexus.kernel.errors import FileError, MissingError, UsageError
from tests.federate.tasks import SMALL
from tests.federate.test_command import call

pytestmark = pytest.mark.torch

CONFIG = """\
common_args: {training_type: "simulation", random_seed: 3}
data_args: {dataset: "digits", partition_method: "hetero", partition_alpha: 0.3}
model_args: {model: "lr"}
train_args:
  federated_optimizer: "FedAvg"
  client_num_in_total: 8
  client_num_per_round: 4
  comm_round: 3
  epochs: 2
  batch_size: 10
  client_optimizer: sgd
  learning_rate: 0.05
tracking_args: {enable_wandb: false, wandb_key: "a-key"}
device_args: {worker_num: 2, gpu_mapping_key: null}
"""


def read(*lines: str, own_task: bool = False) -> Reading:
    """The config with lines that replace those of the same key, or come beside them."""
    kept = [
        line for line in CONFIG.splitlines() if line.split(":")[0].strip() not in {new.split(":")[0] for new in lines}
    ]
    at = kept.index("train_args:") + 1
    text = "\n".join([*kept[:at], *(f"  {line}" for line in lines), *kept[at:]])
    return read_fedml(text, "fedml_config.yaml", own_task=own_task)


def test_known_keys_are_settings():
    found = read()
    assert (found.refused, found.unknown) == ([], [])
    settings = found.settings
    assert (settings.rounds, settings.cohort, settings.seed, found.clients) == (3, 4, 3, 8)
    assert settings.local == Local(epochs=2, batch=10, lr=0.05)
    assert (found.dataset, found.model, found.deal, found.deal_options) == ("digits", "lr", "dirichlet", {"alpha": 0.3})
    assert {one.key for one in found.settled} == {"training_type", "enable_wandb", "wandb_key", "worker_num"}


@pytest.mark.parametrize(
    ("lines", "name", "options"),
    [
        (["federated_optimizer: FedProx", "fedprox_mu: 0.5"], "fedprox", {"mu": 0.5}),
        (["federated_optimizer: FedOpt", "server_lr: 0.1"], "fedavg", {"lr": 0.1}),
        (
            ["federated_optimizer: FedOpt", "server_lr: 0.1", "server_momentum: 0.9"],
            "fedavgm",
            {"lr": 0.1, "momentum": 0.9},
        ),
        (["federated_optimizer: FedOpt", "server_optimizer: adam", "server_lr: 0.02"], "fedadam", {"lr": 0.02}),
        (["federated_optimizer: FedNova"], "fednova", {}),
        (["federated_optimizer: SCAFFOLD"], "scaffold", {}),
        (["federated_optimizer: FedDyn", "feddyn_alpha: 0.2"], "feddyn", {"alpha": 0.2}),
        (["federated_optimizer: Mime", "mimelite: true"], "mimelite", {}),
        (["federated_optimizer: FedSGD"], "fedsgd", {"lr": 0.05}),
    ],
)
def test_optimizers_are_algorithms(lines, name, options):
    found = read(*lines)
    assert not found.refused
    assert (found.settings.algorithm, found.settings.options) == (name, options)


@pytest.mark.parametrize(
    ("lines", "family", "part"),
    [
        (
            ["enable_attack: true", "attack_type: byzantine", "attack_mode: flip", "byzantine_client_num: 1"],
            "attack",
            Part("sign_flip", {"part": 0.25}),
        ),
        (
            ["enable_defense: true", "defense_type: norm_diff_clipping", "norm_bound: 2"],
            "defence",
            Part("norm_clip", {"limit": 2.0}),
        ),
        (["enable_defense: true", "defense_type: rfa"], "defence", Part("geometric_median")),
        (
            ["enable_dp: true", "dp_solution_type: dp_clip", "clipping_norm: 2", "noise_multiplier: 0.5"],
            "privacy",
            Part("central", {"clip": 2.0, "noise": 0.5, "seeded": 1}),
        ),
        (["compression: eftopk", "compress_ratio: 0.2"], "compression", Part("top_k", {"part": 0.2, "memory": 1.0})),
        (["enable_contribution: true", "contribution_alg: LOO"], "contribution", Part("leave_one_out")),
        (["federated_optimizer: LSA"], "secure_aggregation", Part("lightsecagg")),
        (
            ["federated_optimizer: HierarchicalFL", "group_num: 2", "group_comm_round: 3"],
            "schedule",
            Part("hierarchical", {"groups": 2.0, "times": 3.0}),
        ),
        (["fa_task: k_percentile", "k: 90"], "query", Part("quantile", {"q": 0.9})),
    ],
)
def test_switches_are_parts(lines, family, part):
    found = read(*lines)
    assert not found.refused
    assert getattr(found.settings, family) == part


@pytest.mark.parametrize(
    ("line", "key"),
    [
        ("federated_optimizer: FedGAN", "federated_optimizer"),
        ("client_optimizer: adam", "client_optimizer"),
        ("dataset: cifar10", "dataset"),
        ("model: resnet56", "model"),
        ("comm_round: many", "comm_round"),
        ("epochs: 1.5", "epochs"),
        ("enable_fhe: true", "enable_fhe"),
        ("partition_method: strange", "partition_method"),
        ("ml_engine: jax", "ml_engine"),
        ("lr_milestones: [10, 20]", "lr_milestones"),
        ("comm_round: 0", "train_args"),
    ],
)
def test_what_cannot_be_honoured_is_named(line, key):
    found = read(line)
    assert [one.key for one in found.refused] == [key]
    assert key not in {one.key for one in found.honoured}


def test_an_attack_or_a_defence_that_nobody_knows_is_not_silently_none():
    for switch, kind in (("enable_attack", "attack_type"), ("enable_defense", "defense_type")):
        assert [one.key for one in read(f"{switch}: true", f"{kind}: nonsense").refused] == [kind]
        assert not read(f"{switch}: false", f"{kind}: nonsense").refused


def test_data_and_model_may_come_from_a_file_of_ones_own():
    assert not read("dataset: cifar10", "model: resnet56", own_task=True).refused


def test_a_config_runs_alone_and_its_numbers_count(tmp_path):
    config = tmp_path / "fedml_config.yaml"
    config.write_text(CONFIG + "more_args: {colour: blue}\n")
    arguments = ["simulate", "--fedml", str(config), "--out", str(tmp_path / "o"), "--workers", "1", "--json"]
    said = call(*arguments)
    assert "colour is not known and changes nothing" in said.stderr
    result = json.loads(said.stdout)
    assert len(result["rounds"]) == 3
    assert all(len(record["turns"]) == 4 for record in result["rounds"])
    assert result["rounds"][-1]["metrics"]["accuracy"] > 0.3
    assert "8, 4 in each of 3 rounds" in call("simulate", "--fedml", str(config), "--plan").stdout


def test_a_config_leads_a_task_of_ones_own(tmp_path):
    config = tmp_path / "fedml_config.yaml"
    config.write_text(CONFIG.replace('"digits"', '"cifar10"'))
    assert "cifar10" in str(call("simulate", "--fedml", str(config), "--plan", error=UsageError).exception)
    shown = json.loads(call("simulate", str(SMALL), "--fedml", str(config), "--plan", "--json").stdout)
    assert shown["settings"]["local"] == {"epochs": 2, "batch": 10, "lr": 0.05}
    assert shown["clients"] == 12
    config.write_text(CONFIG.replace("federated_optimizer", "fa_task: AVG\n  federated_optimizer"))
    alone = call("simulate", "--fedml", str(config), "--out", str(tmp_path / "o"), "--json", "--workers", "1")
    assert json.loads(alone.stdout)["rounds"][-1]["notes"]["mean"] == pytest.approx(4.4, abs=0.2)
    done = call("simulate", str(SMALL), "--fedml", str(config), "--out", str(tmp_path / "o"), "--json")
    assert json.loads(done.stdout)["rounds"][-1]["notes"]["count"] == 300


def test_what_is_no_config_is_said(tmp_path, monkeypatch):
    monkeypatch.setenv("NEXUS_HOME", str(tmp_path))
    call("simulate", error=UsageError)
    call("simulate", "--fedml", str(tmp_path / "none.yaml"), error=FileError)
    config = tmp_path / "fedml_config.yaml"
    for text in ("[1, 2", "7", ""):
        config.write_text(text)
        call("simulate", "--fedml", str(config), error=FileError)
    config.write_text(CONFIG.replace("digits", "mnist"))
    call("simulate", "--fedml", str(config), error=MissingError)
