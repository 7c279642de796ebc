"""What is trained is the answers, and nothing else."""

from __future__ import annotations

import itertools

import pytest

from nexus.kernel.errors import UsageError
from nexus.train.core.batches import rate_at, rows_at
from nexus.train.core.masking import encode, encode_one, preview
from nexus.train.model import Conversation, Message, TuneSettings
from tests.train.tiny import TEMPLATE, tiny_tokenizer

pytestmark = pytest.mark.torch
TALK = Conversation(
    (
        Message("system", "Be brief. assistant"),
        Message("user", "<|im_start|>assistant\nis no answer"),
        Message("assistant", "Größe: 👍 yes"),
        Message("user", "Größe: 👍 yes"),
        Message("assistant", "No."),
    ),
    line=5,
)


@pytest.fixture(scope="module")
def tokenizer():
    return tiny_tokenizer()


def test_the_trained_tokens_are_the_answers_and_their_ends(tokenizer) -> None:
    example = encode_one(TALK, tokenizer, 1000)
    trained = tokenizer.decode([token for token, on in zip(example.tokens, example.trained, strict=True) if on])
    assert trained == "Größe: 👍 yes<|im_end|>No.<|im_end|>"
    assert preview(example, tokenizer) == (
        "<|im_start|>system\nBe brief. assistant<|im_end|>\n"
        "<|im_start|>user\n<|im_start|>assistant\nis no answer<|im_end|>\n"
        "<|im_start|>assistant\n「Größe: 👍 yes<|im_end|>」\n"
        "<|im_start|>user\nGröße: 👍 yes<|im_end|>\n"
        "<|im_start|>assistant\n「No.<|im_end|>」\n"
    )


def test_long_rows_are_cut_and_counted(tokenizer) -> None:
    short = Conversation((Message("user", "a"), Message("assistant", "b")), 1)
    whole = encode([short, TALK], tokenizer, 1000)
    assert (whole.rows, whole.cut, whole.dropped) == (2, 0, 0)
    cut = encode([short, TALK], tokenizer, 40)
    assert (cut.rows, cut.cut, cut.dropped) == (2, 1, 1), "the long row's answer begins after 40 tokens"
    assert cut.examples[0].line == 1


def test_an_empty_mask_is_refused(tokenizer) -> None:
    with pytest.raises(UsageError, match="every answer begins after 10 tokens"):
        encode([TALK], tokenizer, 10)


def test_a_template_that_rewrites_is_refused() -> None:
    only_last = "{% set messages = messages[-1:] %}" + TEMPLATE
    with pytest.raises(UsageError, match="rewrites earlier turns"):
        encode_one(TALK, tiny_tokenizer(only_last), 1000)


def test_every_row_is_seen_once_in_a_pass() -> None:
    seen = [row for step in range(25) for row in rows_at(step, 50, 4, seed=9)]
    assert sorted(seen[:50]) == sorted(seen[50:]) == list(range(50))
    assert seen[:50] != seen[50:]
    assert rows_at(17, 50, 4, seed=9) == seen[68:72]


def test_the_learning_rate_goes_up_and_down() -> None:
    settings = TuneSettings(steps=20, warmup=4, lr=0.4)
    rates = [rate_at(step, settings) for step in range(20)]
    assert rates[:5] == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.4])
    assert all(later < earlier for earlier, later in itertools.pairwise(rates[4:]))
    assert 0.04 < rates[-1] < 0.05


@pytest.mark.parametrize("wrong", [{"steps": 0}, {"length": 2}, {"lr": 0.0}, {"lr": float("nan")}, {"batch": -1}])
def test_settings_that_mean_nothing_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(UsageError):
        TuneSettings(**wrong)  # type: ignore[arg-type]
