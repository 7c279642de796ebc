"""`PATH=VALUE`, as every command reads it."""

from __future__ import annotations

from collections.abc import Sequence

from nexus.kernel.errors import UsageError


def pairs(changes: Sequence[str], option: str = "--set", example: str = "--set algorithm.mu=0.1") -> dict[str, str]:
    """The values by path of what was given to `option`. Raises UsageError."""
    found = {}
    for change in changes:
        path, mark, value = change.partition("=")
        if not mark:
            raise UsageError(f"{option} {change}: there is no `=`", hint=f"For example {example}")
        found[path.strip()] = value.strip()
    return found
