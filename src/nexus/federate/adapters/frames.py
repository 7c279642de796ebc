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
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from nexus.federate.core.packing import Packing, Shape
from nexus.federate.core.total import Array
from nexus.federate.protocol import HEAD
from nexus.kernel.errors import UsageError

T = TypeVar("T")


_NONE: Mapping[str, Packing] = {}
_DTYPES = {"float32": "F32", "float16": "F16", "uint8": "U8", "uint16": "U16", "uint32": "U32", "int8": "I8"}


def pack(vectors: Mapping[str, Array], head: Any, packing: Mapping[str, Packing] = _NONE) -> bytes:
    """A frame."""
    arrays: dict[str, NDArray[Any]] = {}
    for name, vector in vectors.items():
        if name in packing:
            arrays |= {_key(name, field): array for field, array in packing[name].pack(vector).items()}
        else:
            arrays[name] = vector
    return bytes(save(arrays, {HEAD: msgspec.json.encode(head).decode()}))


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


def read(path: Path, lengths: Mapping[str, int], packing: Mapping[str, Packing] = _NONE) -> dict[str, Array]:
    """A frame's vectors, which must be these, of these lengths, packed so, and finite. Raises UsageError."""
    shapes: dict[str, tuple[Shape, bool]] = {}  # by key: what it may be, and whether its length is given
    for name, length in lengths.items():
        if name in packing:
            shapes |= {_key(name, field): (shape, False) for field, shape in packing[name].shapes(length).items()}
        else:
            shapes[name] = Shape("float32", length), True
    arrays = _read_arrays(path, shapes)
    vectors: dict[str, Array] = {}
    for name, length in lengths.items():
        if name in packing:
            fields = {field: arrays[_key(name, field)] for field in packing[name].shapes(length)}
            vectors[name] = packing[name].unpack(fields, length)
        else:
            vectors[name] = arrays[name]
        if not np.isfinite(vectors[name]).all():
            raise UsageError(f"{name} has values that are not finite", hint="Training diverged: lower local.lr.")
    return vectors


def _read_arrays(path: Path, shapes: Mapping[str, tuple[Shape, bool]]) -> dict[str, NDArray[Any]]:
    try:
        with safe_open(path, framework="numpy") as file:
            names = set(file.keys())
            if names != set(shapes):
                raise UsageError(f"it holds {_names(names)}, not {_names(shapes)}")
            arrays: dict[str, NDArray[Any]] = {}
            for name, (shape, exact) in shapes.items():
                part = file.get_slice(name)
                dtype, found = _DTYPES[shape.dtype], part.get_shape()
                fits = len(found) == 1 and (found[0] == shape.most if exact else found[0] <= shape.most)
                if part.get_dtype() != dtype or not fits:
                    bound = "" if exact else "at most "
                    raise UsageError(f"{name} is {part.get_dtype()} {found}, not {dtype} [{bound}{shape.most}]")
                arrays[name] = file.get_tensor(name)
    except (SafetensorError, OSError) as error:
        raise UsageError(f"not a frame: {error}", hint="Send a safetensors file.") from error
    return arrays


def _key(name: str, field: str) -> str:
    return f"{name}.{field}"


def _names(names: Any) -> str:
    return ", ".join(sorted(names)) or "nothing"
