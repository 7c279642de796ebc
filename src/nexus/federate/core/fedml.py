"""FedML's `fedml_config.yaml`, read as settings. Every key is honoured, is settled otherwise, or is named as unknown.

Sections are cosmetic there and here: all keys share one name space.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from nexus.federate.core.settings import check
from nexus.federate.model import Local, Part, Settings
from nexus.kernel.errors import FileError, NexusError
from nexus.launch.core.jobfile.tree import Place, place_of, read_trees, value_of

_FULL_BATCH = 1_000_000_000

_ELSEWHERE = {  # keys whose matter is settled by where and how this runs
    "training_type backend scenario using_mlops config_version env_version": "one file is simulated or launched",
    "using_gpu gpu_id gpi_id worker_num gpu_mapping_file gpu_mapping_key gpu_util_parse device_type multi_gpu_server": (
        "--workers says how many processes train"
    ),
    "is_mobile mqtt_config_path s3_config_path grpc_ipconfig_path trpc_master_config_path enable_cuda_rpc "
    "cuda_rpc_gpu_mapping customized_training_mqtt_config customized_training_s3_config "
    "customized_training_web3_config customized_training_thetastore_config secret_path download_port": (
        "a simulation sends nothing over a network, and a run has a transport of its own"
    ),
    "enable_tracking enable_wandb wandb_key wandb_entity wandb_project wandb_name wandb_only_server wandb_group_id "
    "run_name log_file_dir local_log_output_path sys_perf_profiling mlops_api_key mlops_project_name mlops_run_name "
    "is_debug_mode debug": "rounds are recorded by themselves",
    "bootstrap launcher data_cache_dir download model_file_cache_folder global_model_file_path client_id_list ci "
    "metric output_dir name project exist_ok part_file": "paths and names of FedML's own",
    "frequency_of_the_test test_on_clients is_aggregator_test test_on_client_ranks save_frequency checkpoint_interval "
    "server_checkpoint_interval evaluate_during_training evaluate_during_training_steps": "every round is tested",
    "weight_decay wd momentum nesterov dampening": "FedML's own `sgd` has no use for it",
    "simulation_schedule runtime_est_mode": "workers take the next clients when they are free",
    "add_attack add_defense": "FedML has no use for it",
    "server_optimizer server_lr server_momentum fedprox_mu mu feddyn_alpha gmf mimelite group_method group_num "
    "group_comm_round attack_type attack_mode byzantine_client_num ratio_of_poisoned_client original_class_list "
    "target_class_list scale_factor_S defense_type norm_bound trim_param_b option_type beta krum_param_m batch_num "
    "bucket_size tau sigma clip_threshold cosine_similarity_bound dp_solution_type dp_type epsilon delta sensitivity "
    "mechanism_type max_grad_norm clipping_norm noise_multiplier compress_ratio sa_method prime_number "
    "precision_parameter": "what it belongs to is not chosen",
}
_SETTLED = {key: why for keys, why in _ELSEWHERE.items() for key in keys.split()}
_DATA = {
    "mnist": "mnist",
    "fashionmnist": "fashion_mnist",
    "fashion_mnist": "fashion_mnist",
    "shakespeare": "shakespeare",
    "fed_shakespeare": "shakespeare",
    "digits": "digits",
    "breast_cancer": "breast_cancer",
}
_MODELS = ("lr", "cnn", "rnn")
_SERVER = {"adam": "fedadam", "yogi": "fedyogi", "adagrad": "fedadagrad"}
_QUERIES = {
    "avg": "mean",
    "freq": "frequency",
    "histogram": "histogram",
    "k_percentile": "quantile",
    "heavy_hitter": "heavy_hitters",
    "union": "union",
    "intersection": "intersection",
    "cardinality": "cardinality",
}
_CONTRIBUTION = {"loo": "leave_one_out", "gtg": "gtg_shapley", "mr": "mr_shapley"}


@dataclass(frozen=True)
class Said:
    """What became of a key."""

    key: str
    value: Any
    why: str
    place: Place


@dataclass
class Reading:
    """A file's meaning. With anything in `refused` it may not run."""

    settings: Settings = field(default_factory=Settings)
    clients: int = 0
    dataset: str = ""
    model: str = ""
    deal: str = "iid"
    deal_options: dict[str, float] = field(default_factory=dict)
    honoured: list[Said] = field(default_factory=list)
    settled: list[Said] = field(default_factory=list)
    unknown: list[Said] = field(default_factory=list)
    refused: list[Said] = field(default_factory=list)


def read_fedml(text: str, file: str, *, own_task: bool = False) -> Reading:
    """What a config means. With `own_task`, data and model come from a person's own file. Raises FileError."""
    trees = read_trees(text, file)
    tree = value_of(trees[0]) if trees else None
    if not isinstance(tree, dict):
        raise FileError(f"{file} has no sections", hint="common_args, data_args, train_args, ...", file=file)
    keys: dict[str, tuple[Any, Place]] = {}
    for section, values in tree.items():
        entries = (
            {(section, key): value for key, value in values.items()}
            if isinstance(values, dict)
            else {(section,): values}
        )
        for path, value in entries.items():
            keys[path[-1]] = value, place_of(trees[0], path, key=True)
    reader = _Reader(keys, own_task=own_task)
    reader.read()
    return reader.found


class _Reader:
    """Takes keys one after another; what nobody took is settled elsewhere, or unknown."""

    def __init__(self, keys: dict[str, tuple[Any, Place]], *, own_task: bool) -> None:
        self.keys = keys
        self.own_task = own_task
        self.found = Reading()
        self.taken: set[str] = set()

    def read(self) -> None:
        """Fill `found`."""
        total = self.whole("client_num_in_total", 1)
        cohort = min(self.whole("client_num_per_round", total), max(total, 1))
        algorithm, options, parts = self.algorithm(cohort)
        rate = self.number("learning_rate", self.number("lr", 0.03))
        batch = self.whole("batch_size", 10)
        self.optimizer()
        parts |= {name: part for name, part in self.parts(cohort).items() if part is not None}
        found = self.found
        found.clients = total
        self.data()
        settings: dict[str, Any] = {
            "rounds": self.whole("comm_round", 10),
            "cohort": cohort,
            "algorithm": algorithm,
            "options": options,
            "local": Local(epochs=self.whole("epochs", 1), batch=batch if batch > 0 else _FULL_BATCH, lr=rate),
            "seed": self.whole("random_seed", 0),
            **parts,
        }
        found.settings = Settings(**settings)
        self.rest()
        try:
            check(found.settings, total)
        except NexusError as error:
            self.refuse("train_args", f"{error.message}. {error.hint}")

    # ------------------------------------------------------------------ keys

    def take(self, key: str, default: Any = None) -> Any:
        """The value of a key, which is honoured thereby; `null` and `None` are no value."""
        value, _ = self.keys.get(key, (None, None))
        if value is None or value == "None":
            return default
        if key not in self.taken:
            self.taken.add(key)
            self.found.honoured.append(self.said(key, ""))
        return value

    def number(self, key: str, default: float) -> float:
        """The same, for a number."""
        value = self.take(key, default)
        try:
            found = math.nan if isinstance(value, bool) else float(value)
        except (TypeError, ValueError):
            found = math.nan
        if not math.isfinite(found):
            self.refuse(key, "it must be a number")
            return default
        return found

    def whole(self, key: str, default: int) -> int:
        """The same, for a whole number."""
        value = self.number(key, default)
        if value != int(value):
            self.refuse(key, "it must be a whole number")
        return int(value)

    def is_on(self, key: str) -> bool:
        """Whether a switch is on."""
        return str(self.take(key, False)).lower() in {"true", "1", "yes"}

    def word(self, key: str) -> str:
        """A value as a word in small letters."""
        return str(self.take(key, "")).strip().lower()

    def said(self, key: str, why: str) -> Said:
        value, place = self.keys.get(key, (None, Place(1, 1)))
        return Said(key, value, why, place)

    def refuse(self, key: str, why: str) -> None:
        """A key that cannot be honoured."""
        self.taken.add(key)
        self.found.honoured = [one for one in self.found.honoured if one.key != key]
        self.found.refused.append(self.said(key, why))

    def rest(self) -> None:
        """Keys that nobody took."""
        for key, (value, _) in self.keys.items():
            if key in self.taken or value is None or value == "None":
                continue
            if key in _SETTLED:
                self.found.settled.append(self.said(key, _SETTLED[key]))
            elif value is False and key.startswith(("enable_", "use_", "fp16", "bf16")):
                self.found.settled.append(self.said(key, "it is off"))
            else:
                self.found.unknown.append(self.said(key, "no such key is known here"))

    # ------------------------------------------------------------------ what they mean

    def algorithm(self, cohort: int) -> tuple[str, dict[str, float], dict[str, Any]]:
        """The algorithm with its options, and the parts that its name brings."""
        name = self.word("federated_optimizer") or "fedavg"
        if self.word("fa_task"):
            return "fedavg", {}, {"query": self.query()}
        server = {
            "fedopt": self.server,
            "fedopt_seq": self.server,
            "fedprox": lambda: ("fedprox", {"mu": self.number("fedprox_mu", self.number("mu", 0.01))}),
            "feddyn": lambda: ("feddyn", {"alpha": self.number("feddyn_alpha", 0.01)}),
            "mime": lambda: ("mimelite" if self.is_on("mimelite") else "mime", {}),
            "fednova": lambda: ("fednova", {}),
            "scaffold": lambda: ("scaffold", {}),
            "fedsgd": lambda: ("fedsgd", {"lr": self.number("learning_rate", self.number("lr", 0.03))}),
        }
        if name in server:
            made: Callable[[], tuple[str, dict[str, float]]] = server[name]
            return *made(), {}
        around: dict[str, dict[str, Any]] = {
            "fedavg": {},
            "fedavg_seq": {},
            "lsa": {"secure_aggregation": Part("lightsecagg")},
            "sa": {"secure_aggregation": Part("secagg")},
            "async_fedavg": {"schedule": Part("buffered")},
            "decentralized_fl": {"schedule": Part("random")},
        }
        if name == "hierarchicalfl":
            options = {"groups": self.number("group_num", 2), "times": self.number("group_comm_round", 2)}
            return "fedavg", {}, {"schedule": Part("hierarchical", options)}
        if name not in around:
            self.refuse(
                "federated_optimizer", "it is not one model that rounds make better; see docs/how-to/federate.md"
            )
        return "fedavg", {}, dict(around.get(name, {}))

    def server(self) -> tuple[str, dict[str, float]]:
        """FedOpt's server half."""
        rate, momentum = self.number("server_lr", 1.0), self.number("server_momentum", 0.0)
        name = self.word("server_optimizer") or "sgd"
        if name == "sgd":
            return ("fedavgm", {"lr": rate, "momentum": momentum}) if momentum else ("fedavg", {"lr": rate})
        if name not in _SERVER:
            self.refuse("server_optimizer", f"the server has sgd, {', '.join(_SERVER)}")
            return "fedavg", {}
        return _SERVER[name], {"lr": rate}

    def optimizer(self) -> None:
        """What a client trains with: plain SGD."""
        if self.word("client_optimizer") not in {"", "sgd"}:
            self.refuse("client_optimizer", "clients train by plain SGD")
        if self.word("ml_engine") not in {"", "torch"}:
            self.refuse("ml_engine", "models are PyTorch's")
        for key in ("clip_grad_norm", "fp16", "bf16"):
            if self.is_on(key):
                self.refuse(key, "clients train by plain SGD in float32")
        for key in ("lr_schedule", "lr_milestones", "freeze_layers", "gradient_accumulation_steps"):
            if self.take(key) not in (None, "", 1, 0):
                self.refuse(key, "a client's rate and layers stay as they are")

    def parts(self, cohort: int) -> dict[str, Part | None]:
        """Attack, defence, privacy, compression, contribution and secure aggregation."""
        if self.is_on("enable_fhe"):
            self.refuse("enable_fhe", "encrypted aggregation is a run's, not a simulation's")
        return {
            "attack": self.attack(cohort) if self.is_on("enable_attack") else self.skip("attack_type attack_mode"),
            "defence": self.defence(cohort) if self.is_on("enable_defense") else self.skip("defense_type"),
            "privacy": self.privacy() if self.is_on("enable_dp") else self.skip("dp_solution_type epsilon delta"),
            "compression": self.compression(),
            "contribution": self.contribution() if self.is_on("enable_contribution") else None,
            **({"secure_aggregation": self.secure()} if self.is_on("enable_sa") else {}),
        }

    def nothing(self, key: str, why: str) -> Part | None:
        """No part, because a key cannot be honoured."""
        self.refuse(key, why)
        return None

    def skip(self, keys: str) -> Part | None:
        """No part: these keys are of something that is off."""
        for key in keys.split():
            if key in self.keys and self.keys[key][0] is not None:
                self.taken.add(key)
                self.found.settled.append(self.said(key, "it is off"))
        return None

    def attack(self, cohort: int) -> Part | None:
        kind, part = self.word("attack_type"), {"part": min(self.number("byzantine_client_num", 1) / cohort, 1.0)}
        if kind == "byzantine":
            mode = {"zero": "zero", "random": "random", "flip": "sign_flip"}.get(self.word("attack_mode"))
            return Part(mode, part) if mode else self.nothing("attack_mode", "there are zero, random and flip")
        if kind == "label_flipping":
            flips = [self.take(key, []) for key in ("original_class_list", "target_class_list")]
            if any(not isinstance(one, list) or len(one) != 1 for one in flips):
                return self.nothing("original_class_list", "one class becomes one other")
            options = {
                "part": self.number("ratio_of_poisoned_client", 0.2),
                "source": flips[0][0],
                "target": flips[1][0],
            }
            return Part("label_flip", options)
        if kind in {"model_replacement", "lazy_worker"}:
            options = {"scale": self.number("scale_factor_S", 0.0)} if kind == "model_replacement" else {}
            return Part({"lazy_worker": "lazy"}.get(kind, "replacement"), {"part": 1 / cohort, **options})
        return self.nothing("attack_type", "there are byzantine, label_flipping, model_replacement and lazy_worker")

    def defence(self, cohort: int) -> Part | None:
        def bad(key: str) -> dict[str, float]:
            return {"bad": self.number(key, 1) / cohort}

        ways: dict[str, Callable[[], Part]] = {
            "norm_diff_clipping": lambda: Part("norm_clip", {"limit": self.number("norm_bound", 5.0)}),
            "diff_clipping": lambda: Part("norm_clip", {"limit": self.number("norm_bound", 5.0)}),
            "krum": lambda: Part("krum", bad("byzantine_client_num")),
            "multikrum": lambda: Part("multi_krum", bad("byzantine_client_num")),
            "bulyan": lambda: Part("bulyan", bad("byzantine_client_num")),
            "trimmed_mean": lambda: Part("trimmed_mean", {"bad": self.number("beta", 0.1)}),
            "wise_median": lambda: Part("median"),
            "geo_median": lambda: Part("geometric_median"),
            "rfa": lambda: Part("geometric_median"),
            "slsgd": lambda: Part("slsgd", bad("trim_param_b") | {"alpha": self.number("alpha", 0.8)}),
            "3sigma": lambda: Part("three_sigma"),
            "foolsgold": lambda: Part("foolsgold"),
            "cclip": lambda: Part("centred_clip", {"limit": self.number("tau", 10.0)}),
            "crfl": lambda: Part(
                "crfl", {"limit": self.number("clip_threshold", 15.0), "sigma": self.number("sigma", 0.01)}
            ),
            "robust_learning_rate": lambda: Part("robust_lr", {"agree": self.number("robust_threshold", 4) / cohort}),
            "weak_dp": lambda: Part("weak_dp", {"sigma": self.number("stddev", 0.002)}),
            "anomaly_detection": lambda: Part("cross_round", {"most": self.number("cosine_similarity_bound", 0.98)}),
            "residual_based_reweighting": lambda: Part("residual"),
        }
        kind = self.word("defense_type")
        return ways[kind]() if kind in ways else self.nothing("defense_type", f"there are {', '.join(ways)}")

    def privacy(self) -> Part | None:
        """FedML's epsilon and delta are those of one release, by which noise = sqrt(2 ln(1.25 / delta)) / epsilon."""
        kind = self.word("dp_solution_type") or self.word("dp_type")
        if kind == "dp_clip":
            options = {"clip": self.number("clipping_norm", 1.0), "noise": self.number("noise_multiplier", 1.0)}
            return Part("central", options | {"seeded": 1})
        if kind not in {"cdp", "ldp"}:
            return self.nothing("dp_solution_type", "there are cdp, ldp and dp_clip")
        clip = self.number("max_grad_norm", self.number("sensitivity", 1.0))
        epsilon, delta = self.number("epsilon", 1.0), self.number("delta", 1e-5)
        if epsilon <= 0 or not 0 < delta < 1:
            return self.nothing("epsilon", "epsilon must be above 0, delta between 0 and 1")
        if self.word("mechanism_type") == "laplace":
            options = {"clip": clip, "noise": 1 / epsilon, "seeded": 1}
            if kind == "ldp":
                return Part("local_laplace", options)
            return self.nothing("mechanism_type", "the server's noise is gaussian")
        noise = math.sqrt(2 * math.log(1.25 / delta)) / epsilon
        return Part("central" if kind == "cdp" else "local", {"clip": clip, "noise": noise, "seeded": 1})

    def compression(self) -> Part | None:
        kind = self.word("compression")
        if kind in {"", "no", "none"}:
            return None
        if kind not in {"topk", "eftopk"}:
            return self.nothing("compression", "there are topk and eftopk")
        return Part("top_k", {"part": self.number("compress_ratio", 0.1), "memory": float(kind == "eftopk")})

    def contribution(self) -> Part | None:
        name = _CONTRIBUTION.get(self.word("contribution_alg"))
        return Part(name) if name else self.nothing("contribution_alg", "there are LOO, GTG and MR")

    def secure(self) -> Part | None:
        for key in ("prime_number", "precision_parameter"):
            if self.take(key) is not None:
                self.taken.add(key)
        return Part("secagg" if self.word("sa_method") == "sa" else "lightsecagg")

    def query(self) -> Part:
        task = self.word("fa_task")
        if task not in _QUERIES:
            self.refuse("fa_task", f"there are {', '.join(_QUERIES)}")
        name = _QUERIES.get(task, "mean")
        return Part(name, {"q": self.number("k", 50) / 100} if name == "quantile" else {})

    def data(self) -> None:
        """Data, how it is dealt, and the model, unless they come from a person's own file."""
        found, name = self.found, self.word("dataset")
        method = self.word("partition_method") or "homo"
        if method == "hetero":
            found.deal, found.deal_options = "dirichlet", {"alpha": self.number("partition_alpha", 0.5)}
        elif method not in {"homo", "uniform"}:
            self.refuse("partition_method", "there are hetero, homo and uniform")
        elif "partition_alpha" in self.keys:
            self.skip("partition_alpha")
        model = self.word("model") or "lr"
        if self.own_task:
            return
        found.dataset, found.model = _DATA.get(name, ""), model
        if not found.dataset:
            self.refuse(
                "dataset", "it cannot be fetched from a package; name a file whose `task` has the data: app.py --fedml"
            )
        if found.settings.query is None and model not in _MODELS:
            self.refuse(
                "model", f"there are {', '.join(_MODELS)}; name a file whose `task` has the model: app.py --fedml"
            )
        elif (model == "rnn") != (found.dataset == "shakespeare") and found.dataset:
            self.refuse("model", f"{model} does not fit {found.dataset}")
