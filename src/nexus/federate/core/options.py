"""Options: the fields of the frozen dataclass that implements an algorithm, a layer, a defence; numbers all."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from nexus.kernel.errors import UsageError

_NOT_OPTIONS = frozenset({"inner", "seed", "draws"})  # what a composition gives to layers


def options_of(kind: type[Any]) -> dict[str, float]:
    """The options of a class with their defaults."""
    made = kind()
    return {one.name: getattr(made, one.name) for one in fields(made) if one.name not in _NOT_OPTIONS}


def make(kind: type[Any], name: str, options: Mapping[str, float], **given: Any) -> Any:
    """An instance with these options, and what a composition gives. Raises UsageError for a bad option."""
    known = options_of(kind)
    for option in options:
        if option not in known:
            near = difflib.get_close_matches(option, known, n=1)
            hint = f"Did you mean {near[0]}? " if near else ""
            has = ", ".join(f"{k} (default {v:g})" for k, v in known.items()) or "none"
            raise UsageError(f"{name} has no option {option!r}", hint=f"{hint}It has: {has}.")
    values = {option: type(known[option])(value) for option, value in options.items()}
    return kind(**values, **given)
