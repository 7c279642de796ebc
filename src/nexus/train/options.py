"""What fine-tuning can be told: the same words for `nexus tune` and for the process in the run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

import click

from nexus.kernel.errors import UsageError
from nexus.kernel.ids import is_name, to_name
from nexus.train.model import LoraSettings, TuneSettings

F = TypeVar("F", bound=Callable[..., Any])
_DEFAULT = TuneSettings()

# (option, type, default, help)
TABLE: tuple[tuple[str, type[Any], Any, str], ...] = (
    ("steps", int, _DEFAULT.steps, "Steps of training."),
    ("batch", int, _DEFAULT.batch, "Rows in memory at once."),
    ("accumulate", int, _DEFAULT.accumulate, "Batches in one step."),
    ("length", int, _DEFAULT.length, "Tokens of a row; longer ones are cut."),
    ("lr", float, _DEFAULT.lr, "The highest learning rate."),
    ("warmup", int, _DEFAULT.warmup, "Steps until the learning rate is at its highest."),
    ("clip", float, _DEFAULT.clip, "The largest norm of a gradient."),
    ("seed", int, _DEFAULT.seed, "The same seed, data and versions give the same model."),
    ("rank", int, _DEFAULT.lora.rank, "The rank of the adapters."),
    ("alpha", int, _DEFAULT.lora.alpha, "The adapters are scaled by alpha / rank."),
    ("dropout", float, _DEFAULT.lora.dropout, "The share of inputs that the adapters do not see."),
    ("held-out", int, _DEFAULT.held_out, "Rows to evaluate on, never trained on."),
    ("eval-every", int, _DEFAULT.eval_every, "Steps between evaluations; 0: before and after."),
    ("checkpoint-every", int, _DEFAULT.checkpoint_every, "Steps between checkpoints."),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class TuneRequest:
    """One fine-tuning, as asked for."""

    model: str
    data: str
    name: str
    precision: str = "q8_0"
    settings: TuneSettings = field(default_factory=TuneSettings)

    def argv(self) -> list[str]:
        """The arguments that mean this request."""
        values = _values(self.settings)
        words = ["--model", self.model, "--data", self.data, "--name", self.name, "--precision", self.precision]
        for option, _, default, _ in TABLE:
            if values[option] != default:
                words += [f"--{option}", str(values[option])]
        return words


def tune_options(command: F) -> F:
    """All options of a fine-tuning; the command gets them as `TuneRequest`'s words (see `request_of`)."""
    for option, kind, default, says in reversed(TABLE):
        command = click.option(f"--{option}", type=kind, default=default, show_default=True, help=says)(command)
    command = click.option(
        "--precision", default="q8_0", show_default=True, type=click.Choice(["q8_0", "f16"]), help="Of the served file."
    )(command)
    command = click.option("--name", required=True, help="The new model's name in the registry.")(command)
    command = click.option(
        "--data", required=True, help="alpaca-demo, or a .jsonl, .json or .csv file of instructions."
    )(command)
    return click.option(
        "--model", default="smollm2", show_default=True, help="The base: smollm2, a .gguf file, or a model's folder."
    )(command)


def request_of(model: str, data: str, name: str, precision: str, **values: Any) -> TuneRequest:
    """The request that the options' values mean. Raises UsageError."""
    if not is_name(name):
        raise UsageError(f"{name!r} cannot name a model", hint=f"Call it {to_name(name)!r}.")
    lora = LoraSettings(rank=values.pop("rank"), alpha=values.pop("alpha"), dropout=values.pop("dropout"))
    settings = TuneSettings(lora=lora, **values)
    return TuneRequest(model=model, data=data, name=name, precision=precision, settings=settings)


def _values(settings: TuneSettings) -> dict[str, Any]:
    inner = {"rank": settings.lora.rank, "alpha": settings.lora.alpha, "dropout": settings.lora.dropout}
    names = [option for option, *_ in TABLE if option not in inner]
    return inner | {name: getattr(settings, name.replace("-", "_")) for name in names}
