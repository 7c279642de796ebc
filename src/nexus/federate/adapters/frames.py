"""Frames: vectors and a typed head in one safetensors file, written so that it is there whole or not at all.

Reading maps the file: an update costs no memory beyond the page cache, however many wait.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from nexus.federate.core.total import Array
from nexus.federate.protocol import HEAD
from nexus.kernel.errors import UsageError

T = TypeVar("T")


def pack(vectors: Mapping[str, Array], head: Any) -> bytes:
    """A frame."""
    return bytes(save(dict(vectors), {HEAD: msgspec.json.encode(head).decode()}))


def write(path: Path, data: bytes) -> None:
    """Put a file in place durably: complete, or not there. Raises OSError."""
    part = path.with_name(path.name + ".part")
    with part.open("wb") as file:
        file.write(data)
    settle(part, path)


def settle(part: Path, path: Path) -> int:
    """Make a complete file durable under its name; its size. Raises OSError."""
    with part.open("rb+") as file:
        os.fsync(file.fileno())
        size = os.fstat(file.fileno()).st_size
    part.replace(path)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
    return size


def read_head(path: Path, kind: type[T]) -> T:
    """A frame's head. Raises UsageError if it is no frame."""
    try:
        with safe_open(path, framework="numpy") as file:
            text = (file.metadata() or {}).get(HEAD, "")
        return msgspec.json.decode(text, type=kind)
    except (SafetensorError, msgspec.DecodeError, OSError) as error:
        raise UsageError(f"not a frame: {error}", hint="Send a safetensors file whose metadata has `nexus`.") from error


def read(path: Path, lengths: Mapping[str, int]) -> dict[str, Array]:
    """A frame's vectors, which must be these, of these lengths, float32 and finite. Raises UsageError."""
    try:
        with safe_open(path, framework="numpy") as file:
            names = set(file.keys())
            if names != set(lengths):
                raise UsageError(f"it holds {_names(names)}, not {_names(lengths)}")
            vectors: dict[str, Array] = {}
            for name, length in lengths.items():
                part = file.get_slice(name)
                if part.get_dtype() != "F32" or part.get_shape() != [length]:
                    raise UsageError(f"{name} is {part.get_dtype()} {part.get_shape()}, not F32 [{length}]")
                vectors[name] = file.get_tensor(name)
    except (SafetensorError, OSError) as error:
        raise UsageError(f"not a frame: {error}", hint="Send a safetensors file.") from error
    for name, vector in vectors.items():
        if not np.isfinite(vector).all():
            raise UsageError(f"{name} has values that are not finite", hint="Training diverged: lower local.lr.")
    return vectors


def _names(names: Any) -> str:
    return ", ".join(sorted(names)) or "nothing"
