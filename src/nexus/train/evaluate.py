"""How good a language model is: its loss on held-out answers, and what it says. Needs torch.

The functions take any causal model of transformers whose logits are `lm_head(backbone(tokens))`, with adapters or
without, so that fine-tuning, evaluation and a test use the very same numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import functional

from nexus.train.core.masking import prompt_text
from nexus.train.model import Conversation, Example, Sample, Score


@dataclass(frozen=True)
class Batch:
    """Rows of one step, padded on the right to the longest."""

    tokens: torch.Tensor  # rows x length
    attention: torch.Tensor
    trained: torch.Tensor  # True where the token is to be said by the model

    @property
    def trained_tokens(self) -> int:
        """What the loss is divided by; a row's first token is never predicted."""
        return int(self.trained[:, 1:].sum())


def collate(examples: Sequence[Example], pad: int) -> Batch:
    """Examples as one batch."""
    length = max(len(example.tokens) for example in examples)
    tokens = torch.full((len(examples), length), pad)
    attention = torch.zeros((len(examples), length), dtype=torch.long)
    trained = torch.zeros((len(examples), length), dtype=torch.bool)
    for row, example in enumerate(examples):
        size = len(example.tokens)
        tokens[row, :size] = torch.tensor(example.tokens)
        attention[row, :size] = 1
        trained[row, :size] = torch.tensor(example.trained)
    return Batch(tokens, attention, trained)


def answer_loss(model: Any, batch: Batch) -> torch.Tensor:
    """The summed negative log likelihood of the trained tokens, in nats.

    The vocabulary's logits are computed only where a trained token is predicted: with answers of a third of the tokens
    that saves two thirds of the output layer, a fifth of a small model's work, and most of its memory.
    """
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    backbone = getattr(base, base.base_model_prefix)
    tokens, attention = batch.tokens.to(base.device), batch.attention.to(base.device)
    predicted = batch.trained[:, 1:].to(base.device)
    hidden = backbone(input_ids=tokens, attention_mask=attention, use_cache=False).last_hidden_state
    logits = base.get_output_embeddings()(hidden[:, :-1][predicted])
    return functional.cross_entropy(logits.float(), tokens[:, 1:][predicted], reduction="sum")


def score(model: Any, examples: Sequence[Example], pad: int, *, batch: int = 8) -> Score:
    """The mean loss over every trained token of `examples`."""
    total, tokens = 0.0, 0
    was_training = model.training
    model.eval()
    by_length = sorted(examples, key=lambda example: len(example.tokens))  # little padding
    with torch.inference_mode():
        for start in range(0, len(by_length), batch):
            rows = collate(by_length[start : start + batch], pad)
            total += float(answer_loss(model, rows))
            tokens += rows.trained_tokens
    model.train(was_training)
    return Score(total / max(1, tokens), tokens)


def sample(model: Any, tokenizer: Any, rows: Sequence[Conversation], *, tokens: int = 40) -> list[Sample]:
    """What the model answers to the prompts of `rows`, all at once, always taking the likeliest token."""
    texts = [prompt_text(tokenizer, row.prompt) for row in rows]
    ids = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in texts]
    length = max(map(len, ids))
    pad = pad_token(tokenizer)
    given = torch.tensor([[pad] * (length - len(row)) + row for row in ids])
    attention = torch.tensor([[0] * (length - len(row)) + [1] * len(row) for row in ids])
    was_training = model.training
    model.eval()
    with torch.inference_mode():
        said = model.generate(
            input_ids=given.to(model.device),
            attention_mask=attention.to(model.device),
            max_new_tokens=tokens,
            do_sample=False,
            pad_token_id=pad,
            eos_token_id=tokenizer.eos_token_id,
        )
    model.train(was_training)
    answers = [str(tokenizer.decode(row, skip_special_tokens=True)).strip() for row in said[:, length:].tolist()]
    return [Sample(row.prompt[-1].content, answer) for row, answer in zip(rows, answers, strict=True)]


def pad_token(tokenizer: Any) -> int:
    """What rows are filled up with; its value never counts."""
    for token in (tokenizer.pad_token_id, tokenizer.eos_token_id):
        if token is not None:
            return int(token)
    return 0
