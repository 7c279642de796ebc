"""The fine-tuning loop: LoRA by peft, everything else plain torch, so that a step costs what its arithmetic costs.

Rows, learning rate and order are functions of seed and step (`core.batches`); adapter, optimizer and random numbers are
in every checkpoint. A run that was killed and goes on ends with the same numbers as one that was not.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from peft import LoraConfig, get_peft_model

from nexus.kernel.errors import UsageError
from nexus.train.checkpoint import Checkpoints
from nexus.train.core.batches import rate_at, rows_at
from nexus.train.evaluate import answer_loss, collate, score
from nexus.train.model import Example, Score, TuneSettings
from nexus.train.torchstate import optimizer_state, random_state, restore_optimizer, restore_random_state


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """What one step did."""

    number: int  # finished steps
    loss: float
    rate: float
    norm: float  # of the gradient, before it was clipped
    tokens: int  # read, padding not counted
    seconds: float


class Watcher:
    """Is told what happens; the run's log and metrics are one, a test's list another."""

    def resumed(self, step: int) -> None:
        """The loop goes on from a checkpoint."""

    def stepped(self, step: Step) -> None:
        """A step is done."""

    def evaluated(self, step: int, found: Score) -> None:
        """The held-out rows were scored."""

    def kept(self, step: int) -> None:
        """A checkpoint is on disk."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """The model with its trained adapter, and its scores."""

    model: Any
    before: Score
    after: Score


class Tuner:
    """One fine-tuning of one model."""

    def __init__(
        self, model: Any, *, pad: int, settings: TuneSettings, checkpoints: Checkpoints, watcher: Watcher, of: str
    ) -> None:
        """`of` names model and data: a checkpoint of another fine-tuning is refused."""
        torch.manual_seed(settings.seed)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", category=FutureWarning, module="transformers")  # of peft's calls
            self.model = get_peft_model(model, _lora(settings))
        self.pad, self.settings, self.checkpoints, self.watcher = pad, settings, checkpoints, watcher
        self.identity = {"of": of, "settings": asdict(settings)}
        self.adapter = {name: value for name, value in self.model.named_parameters() if value.requires_grad}
        self.optimizer = torch.optim.AdamW(self.adapter.values(), lr=settings.lr, weight_decay=0.0)

    def run(self, rows: Sequence[Example], held_out: Sequence[Example]) -> Outcome:
        """Train to the end, from the newest checkpoint if there is one. Raises UsageError if that is of another run."""
        start, before = self._begin(held_out)
        self.model.train()
        for number in range(start, self.settings.steps):
            self.watcher.stepped(self._step(number, rows))
            done = number + 1
            every = self.settings.eval_every
            if every and done % every == 0 and done < self.settings.steps:
                self.watcher.evaluated(done, score(self.model, held_out, self.pad))
            if self.checkpoints.due(done) or done == self.settings.steps:
                self._keep(done, before)
        after = score(self.model, held_out, self.pad)
        self.watcher.evaluated(self.settings.steps, after)
        return Outcome(self.model, before, after)

    def _begin(self, held_out: Sequence[Example]) -> tuple[int, Score]:
        found = self.checkpoints.latest()
        if found is None:
            before = score(self.model, held_out, self.pad)
            self.watcher.evaluated(0, before)
            self._keep(0, before)  # the first score costs seconds, and is not paid twice
            return 0, before
        if found.state["identity"] != self.identity:
            raise UsageError(
                f"{self.checkpoints.directory} holds checkpoints of another fine-tuning",
                hint="Use another folder (NEXUS_CHECKPOINTS), or remove that one.",
            )
        saved = found.tensors("adapter")
        with torch.no_grad():
            for name, value in self.adapter.items():
                value.copy_(saved[name])
        if found.step:
            restore_optimizer(self.optimizer, found.tensors("optimizer"))
        restore_random_state(found.tensors("rng"))
        self.watcher.resumed(found.step)
        return found.step, Score(found.state["before"]["loss"], found.state["before"]["tokens"])

    def _step(self, number: int, rows: Sequence[Example]) -> Step:
        began = time.perf_counter()
        settings = self.settings
        rate = rate_at(number, settings)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        chosen = rows_at(number, len(rows), settings.batch * settings.accumulate, settings.seed)
        parts = [
            collate([rows[index] for index in chosen[place : place + settings.batch]], self.pad)
            for place in range(0, len(chosen), settings.batch)
        ]
        trained = sum(part.trained_tokens for part in parts)  # every token counts the same in whichever part it lies
        self.optimizer.zero_grad(set_to_none=True)
        total = 0.0
        for part in parts:
            loss = answer_loss(self.model, part) / trained
            loss.backward()  # type: ignore[no-untyped-call]
            total += float(loss.detach())
        norm = torch.nn.utils.clip_grad_norm_(self.adapter.values(), settings.clip)
        self.optimizer.step()
        return Step(
            number=number + 1,
            loss=total,
            rate=rate,
            norm=float(norm),
            tokens=sum(int(part.attention.sum()) for part in parts),
            seconds=time.perf_counter() - began,
        )

    def _keep(self, step: int, before: Score) -> None:
        groups: dict[str, dict[str, torch.Tensor]] = {"adapter": dict(self.adapter), "rng": random_state()}
        if step:
            groups["optimizer"] = optimizer_state(self.optimizer)
        self.checkpoints.save(step, groups, {"identity": self.identity, "before": asdict(before)})
        self.watcher.kept(step)


def merged(model: Any) -> Any:
    """The base model with the adapter worked into its weights."""
    return model.merge_and_unload()


def _lora(settings: TuneSettings) -> LoraConfig:
    lora = settings.lora
    return LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules="all-linear",
        task_type="CAUSAL_LM",
    )
