"""What fine-tuning talks about: conversations, what is trained of them, how, and how good it became."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from nexus.kernel.errors import UsageError


@dataclass(frozen=True, slots=True)
class Message:
    """One turn. `role`: system | user | assistant."""

    role: str
    content: str


@dataclass(frozen=True, slots=True)
class Conversation:
    """One row of data; it ends with an assistant's turn. `line` is where it stands in its file."""

    messages: tuple[Message, ...]
    line: int = 0

    @property
    def prompt(self) -> tuple[Message, ...]:
        """Everything before the last answer."""
        return self.messages[:-1]


@dataclass(frozen=True, slots=True)
class RowError:
    """Why one row cannot be used."""

    line: int
    reason: str


@dataclass(frozen=True, slots=True)
class Rows:
    """What was read of a data set."""

    format: str  # alpaca | messages | sharegpt | prompt-completion
    conversations: tuple[Conversation, ...]
    errors: tuple[RowError, ...] = ()


@dataclass(frozen=True, slots=True)
class Example:
    """A conversation as tokens; `trained[i]`: the model learns to say `tokens[i]`."""

    tokens: tuple[int, ...]
    trained: tuple[bool, ...]
    line: int = 0
    cut: bool = False  # it was longer than allowed

    @property
    def count(self) -> int:
        """How many tokens are trained."""
        return sum(self.trained)


@dataclass(frozen=True, slots=True, kw_only=True)
class LoraSettings:
    """Low-rank adapters (Hu et al. 2021, https://arxiv.org/abs/2106.09685) on every linear layer of the blocks.

    Their product is scaled by `alpha / rank`.
    """

    rank: int = 16
    alpha: int = 32
    dropout: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class TuneSettings:
    """How to fine-tune. Lengths in tokens, the rest in steps; a step is `batch * accumulate` rows."""

    steps: int = 20
    batch: int = 4
    accumulate: int = 1
    length: int = 256  # longer rows are cut
    lr: float = 5e-4
    warmup: int = 3
    clip: float = 1.0  # the largest norm of a gradient
    seed: int = 7
    lora: LoraSettings = field(default_factory=LoraSettings)
    held_out: int = 24  # rows that are only evaluated on
    eval_every: int = 0  # 0: before and after
    checkpoint_every: int = 10

    def __post_init__(self) -> None:
        """Raises UsageError for what cannot be trained with."""
        for name in ("steps", "batch", "accumulate", "checkpoint_every", "held_out"):
            if getattr(self, name) < 1:
                raise UsageError(f"{name} is {getattr(self, name)}", hint="Give a number from 1 on.")
        if not 8 <= self.length <= 1_000_000:
            raise UsageError(f"the length is {self.length} tokens", hint="Give 8 at least, such as 256.")
        if not (0 < self.lr < 1 and math.isfinite(self.lr)):
            raise UsageError(f"the learning rate is {self.lr}", hint="LoRA likes 1e-4 to 1e-3.")
        if not (1 <= self.lora.rank <= 1024 and self.lora.alpha > 0 and 0 <= self.lora.dropout < 1):
            raise UsageError("these LoRA settings mean nothing", hint="rank 1..1024, alpha above 0, dropout 0..1.")


@dataclass(frozen=True, slots=True)
class Score:
    """Mean negative log likelihood, in nats, over the trained tokens of the held-out rows."""

    loss: float
    tokens: int

    @property
    def perplexity(self) -> float:
        """How many tokens the model hesitates between."""
        return math.exp(min(self.loss, 700.0))


@dataclass(frozen=True, slots=True)
class Sample:
    """What the model answers, greedily, to the prompt of a held-out row."""

    prompt: str
    answer: str
