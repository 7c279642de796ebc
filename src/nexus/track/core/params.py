"""Parameters as a job wrote them: a JSON object, bounded, or nothing. Pure."""

from __future__ import annotations

from typing import Any

import msgspec

_NAMES_MAX = 10_000


def read_params(json: bytes) -> dict[str, Any]:
    """The object in `json`. What is no object is dropped: a job may write what it likes, and stops nobody with it."""
    try:
        found = msgspec.json.decode(json, type=dict[str, Any])
    except (msgspec.DecodeError, RecursionError):
        return {}
    return {name[:512]: value for name, value in list(found.items())[:_NAMES_MAX] if "\0" not in name}
