"""What Train needs of the world."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol


class Tokenizer(Protocol):
    """The part of a Hugging Face fast tokenizer that deciding what is trained needs."""

    def apply_chat_template(
        self, conversation: list[dict[str, str]], *, tokenize: bool, add_generation_prompt: bool
    ) -> Any:
        """The conversation as one text, when `tokenize` is False."""
        ...

    def __call__(self, text: str, *, add_special_tokens: bool, return_offsets_mapping: bool) -> Any:
        """A mapping with `input_ids` and `offset_mapping`: for each token its first and last character."""
        ...

    def decode(self, token_ids: Sequence[int]) -> Any:
        """The text of tokens."""
        ...
