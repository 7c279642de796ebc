"""Which tokens are trained: the assistant's answers and the sign that ends them, as the chat template writes them.

The template is asked twice for each answer: with everything before it, and with it. What the second text has more than
the first is the answer. So it works for any template that only ever adds, and needs no markers in it; a template that
rewrites earlier turns is refused rather than trained wrongly.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from nexus.kernel.errors import UsageError
from nexus.train.model import Conversation, Example, Message
from nexus.train.ports import Tokenizer


@dataclass(frozen=True, slots=True)
class Encoded:
    """A data set as tokens, and what became of its rows."""

    examples: tuple[Example, ...]
    rows: int
    cut: int  # rows that were longer than allowed
    dropped: int  # of those, rows of which no trained token was left

    @property
    def trained(self) -> int:
        """How many tokens are trained in one pass."""
        return sum(example.count for example in self.examples)

    @property
    def total(self) -> int:
        """How many tokens there are."""
        return sum(len(example.tokens) for example in self.examples)


def encode(conversations: Iterable[Conversation], tokenizer: Tokenizer, length: int) -> Encoded:
    """Every conversation as tokens with its mask. Raises UsageError if nothing at all would be trained."""
    examples, rows, cut = [], 0, 0
    for conversation in conversations:
        example = encode_one(conversation, tokenizer, length)
        rows += 1
        cut += example.cut
        if example.count:
            examples.append(example)
    if not examples:
        raise UsageError(
            f"no token of {rows} rows would be trained: every answer begins after {length} tokens",
            hint="Raise --length, or shorten the prompts.",
        )
    return Encoded(tuple(examples), rows, cut, rows - len(examples))


def encode_one(conversation: Conversation, tokenizer: Tokenizer, length: int) -> Example:
    """One conversation as tokens with its mask, cut to `length`. Raises UsageError for a template that rewrites."""
    spans = []
    whole = _text(tokenizer, conversation.messages)
    for index, message in enumerate(conversation.messages):
        if message.role != "assistant":
            continue
        before = _text(tokenizer, conversation.messages[:index], answering=True)
        after = _text(tokenizer, conversation.messages[: index + 1])
        if not after.startswith(before) or not whole.startswith(after):
            raise UsageError(
                "the model's chat template rewrites earlier turns, so its answers cannot be told apart",
                hint="Use single-turn data, or a base model with a template that only adds.",
                line=conversation.line,
            )
        spans.append((len(before), len(after.rstrip())))
    encoded = tokenizer(whole, add_special_tokens=False, return_offsets_mapping=True)
    tokens, offsets = encoded["input_ids"], encoded["offset_mapping"]
    trained = [any(start <= first < end for start, end in spans) and last > first for first, last in offsets]
    return Example(tuple(tokens[:length]), tuple(trained[:length]), conversation.line, len(tokens) > length)


def prompt_text(tokenizer: Tokenizer, messages: Sequence[Message]) -> str:
    """The text after which the model answers."""
    return _text(tokenizer, messages, answering=True)


def preview(example: Example, tokenizer: Tokenizer) -> str:
    """The text with what is trained in 「 」, for people to check before anything is trained."""
    parts, start = [], 0
    for place in range(1, len(example.tokens) + 1):
        if place == len(example.tokens) or example.trained[place] != example.trained[start]:
            text = str(tokenizer.decode(list(example.tokens[start:place])))
            parts.append(f"「{text}」" if example.trained[start] else text)
            start = place
    return "".join(parts)


def _text(tokenizer: Tokenizer, messages: Sequence[Message], *, answering: bool = False) -> str:
    plain = [{"role": message.role, "content": message.content} for message in messages]
    return str(tokenizer.apply_chat_template(plain, tokenize=False, add_generation_prompt=answering))
