"""What agent and shim write for each other, and the clock that both read."""

from __future__ import annotations

import time

_STATUS_B = 512


def now_s() -> float:
    """Seconds on a clock which never goes back, and which counts while the machine sleeps where it can."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


def encode_spec(fields: dict[str, list[str]]) -> bytes:
    """A spec file's content. Raises ValueError: no value may hold NUL, as the system's own arguments may not."""
    parts: list[str] = []
    for name, values in fields.items():
        parts += [name, str(len(values)), *values]
    if any("\0" in part for part in parts):
        raise ValueError("a command or variable holds a NUL character")
    return "".join(part + "\0" for part in parts).encode("utf-8", "surrogateescape")


def decode_spec(data: bytes) -> dict[str, list[str]]:
    """What `encode_spec` wrote."""
    parts = data.decode("utf-8", "surrogateescape").split("\0")
    fields: dict[str, list[str]] = {}
    position = 0
    while position < len(parts) - 1:
        name, count = parts[position], int(parts[position + 1])
        fields[name] = parts[position + 2 : position + 2 + count]
        position += 2 + count
    return fields


def start_ticks(pid: int) -> str:
    """When a process began, to tell it from a later one of the same number; empty if it is not there."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:  # noqa: PTH123 (pathlib takes 10 ms to import)
            return file.read().rpartition(b")")[2].split()[19].decode()
    except (OSError, IndexError):
        return ""


def encode_status(**values: object) -> bytes:
    """Words in a block of fixed size, so that writing them again needs no room on the disk."""
    return " ".join(f"{name}={value}" for name, value in values.items()).encode().ljust(_STATUS_B - 1) + b"\n"


def decode_status(data: bytes) -> dict[str, str]:
    """What `encode_status` wrote."""
    return dict(word.split("=", 1) for word in data.decode("utf-8", "replace").split() if "=" in word)


def escape(text: str) -> str:
    """Text inside a JSON string: `json` would take longer to import than the shim to start."""
    safe = "".join(letter if letter.isprintable() else "?" for letter in text[:300])
    return safe.replace("\\", "\\\\").replace('"', '\\"')
