"""`--set PATH=VALUE`, as every command reads it."""

from __future__ import annotations

from nexus.kernel.errors import UsageError


def pairs(changes: tuple[str, ...]) -> dict[str, str]:
    """The values by path. Raises UsageError."""
    found = {}
    for change in changes:
        path, mark, value = change.partition("=")
        if not mark:
            raise UsageError(f"--set {change}: there is no `=`", hint="For example --set algorithm.mu=0.1")
        found[path.strip()] = value.strip()
    return found
