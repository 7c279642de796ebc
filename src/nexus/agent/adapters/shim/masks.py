"""A task's secrets do not get into its log: they are struck out where its output is first written.

Each line of a secret is struck out by itself, for the log is made of lines. What is shorter than `SHORTEST` stays: to
strike out every `yes` would tell more than it hides. A secret that the job writes in another form (base64, one letter
a line) is not known again.
"""

from __future__ import annotations

SHORTEST = 6
STRUCK = b"***"


class Masks:
    """The secrets of one task; of none, it costs nothing."""

    def __init__(self, secrets: list[str]) -> None:
        lines = {line.strip() for value in secrets for line in value.encode("utf-8", "surrogateescape").splitlines()}
        self._lines = sorted((line for line in lines if len(line) >= SHORTEST), key=len, reverse=True)

    def hide(self, data: bytes) -> bytes:
        """Strike out every secret that is whole in there; of two that overlap, the longer one."""
        for line in self._lines:
            if line in data:
                data = data.replace(line, STRUCK)
        return data

    def held(self, data: bytes) -> int:
        """How many of the last bytes may be the beginning of a secret, and have to wait for what follows."""
        longest = 0
        for line in self._lines:
            for size in range(min(len(line) - 1, len(data)), longest, -1):
                if data.endswith(line[:size]):
                    longest = size
                    break
        return longest


def without_secrets(spec: dict[str, list[str]]) -> dict[str, list[str]]:
    """A spec as it stays on the disk once its job runs."""
    secrets = set(spec["secrets"])
    env = [pair for pair in spec["env"] if pair.partition("=")[2] not in secrets]
    return {**spec, "env": env, "secrets": []}
