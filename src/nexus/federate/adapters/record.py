"""Keep what happened: rounds as JSON lines, the model as safetensors, and both, with the metrics, in the run's record.

Outside a run `nexus.log` and `nexus.artifact` check their values and keep nothing; the files are written all the same.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import msgspec
from safetensors.torch import save_file

import nexus
from nexus.federate.core.algorithm import Vector
from nexus.federate.core.contribution.measure import summed
from nexus.federate.core.trainer import TorchTrainer
from nexus.federate.model import Outcome, Round, Settings
from nexus.kernel.ids import to_name


def log_round(record: Round) -> None:
    """The round's numbers as points of the run's charts, at its number as the step."""
    dropped = sum(turn.outcome is Outcome.DROPPED for turn in record.turns)
    refused = sum(turn.outcome is Outcome.REFUSED for turn in record.turns)
    values = {f"federate/{name}": value for name, value in record.metrics.items()}
    values |= {f"federate/{name}": value for name, value in record.notes.items()}
    values |= {
        "federate/seconds": record.seconds,
        "federate/bytes_down": float(record.bytes_down),
        "federate/bytes_up": float(record.bytes_up),
        "federate/accepted": float(len(record.accepted)),
        "federate/dropped": float(dropped),
        "federate/refused": float(refused),
    }
    nexus.log(values, step=record.number)


def save_result(
    folder: Path, settings: Settings, rounds: Sequence[Round], trainer: TorchTrainer, model: Vector
) -> dict[str, Path]:
    """Write `rounds.jsonl`, `model.safetensors` and `result.json` into `folder`, and hand the first two to the run.

    In the registry the model is called what the run is called.
    """
    folder.mkdir(parents=True, exist_ok=True)
    paths = {name: folder / name for name in ("rounds.jsonl", "model.safetensors", "result.json")}
    _write(paths["rounds.jsonl"], b"".join(msgspec.json.encode(record) + b"\n" for record in rounds))
    last = rounds[-1]
    save_file(trainer.tensors(model), paths["model.safetensors"], {"federate.model": last.model})
    result = {
        "settings": settings,
        "rounds": len(rounds),
        "metrics": last.metrics,
        "model": last.model,
        "bytes_down": sum(record.bytes_down for record in rounds),
        "bytes_up": sum(record.bytes_up for record in rounds),
    }
    if shares := summed(rounds):
        result["contribution"] = {str(client): share for client, share in sorted(shares.items())}
    _write(paths["result.json"], msgspec.json.format(msgspec.json.encode(result), indent=2) + b"\n")
    nexus.artifact("rounds", paths["rounds.jsonl"])
    name = to_name(os.environ.get("NEXUS_RUN_NAME", "federated"))
    nexus.artifact(name, paths["model.safetensors"], kind="model", meta=dict(last.metrics))
    return paths


def _write(path: Path, data: bytes) -> None:
    """Whole or not at all."""
    part = path.with_name(path.name + ".part")
    part.write_bytes(data)
    part.replace(path)
