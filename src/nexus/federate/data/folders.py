"""Folders: LEAF's JSON, images by client and class, plain text by client."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from nexus.federate.data.dataset import Dataset, coded
from nexus.kernel.errors import FileError, MissingError, UsageError

_IMAGES = {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp"}


class _LeafUser(msgspec.Struct):
    x: list[Any]
    y: list[Any]


class _LeafFile(msgspec.Struct):
    users: list[str]
    user_data: dict[str, _LeafUser]


def leaf(path: str | Path, test: str | Path | None = None) -> Dataset:
    """LEAF's JSON: one file, or a folder of them; users are clients. `test` is another, held out.

    Inputs must be numbers of one shape. Raises FileError.
    """
    x, y, keys = _leaf(Path(path))
    held_out = None if test is None else _leaf(Path(test))[:2]
    return Dataset(x, y, keys, held_out)


def _leaf(path: Path) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    files = sorted(path.glob("*.json")) if path.is_dir() else [path]
    if not files:
        raise FileError(f"{path} has no .json files", hint="Name LEAF's `train` or `test` folder.", file=str(path))
    inputs: list[Any] = []
    labels: list[Any] = []
    keys: list[str] = []
    for file in files:
        try:
            found = msgspec.json.decode(file.read_bytes(), type=_LeafFile)
        except (OSError, msgspec.DecodeError) as error:
            raise FileError(
                f"{file} is not LEAF's JSON: {error}", hint="It needs `users` and `user_data`.", file=str(file)
            ) from error
        for user in found.users:
            mine = found.user_data.get(user)
            if mine is None or len(mine.x) != len(mine.y):
                raise FileError(
                    f"{file}: user {user} has no data, or another number of labels", hint="", file=str(file)
                )
            inputs += mine.x
            labels += mine.y
            keys += [user] * len(mine.x)
    try:
        x, y = np.array(inputs, np.float32), np.array(labels)
    except ValueError as error:
        raise FileError(
            f"{path} has inputs that are no numbers of one shape", hint="Encode words first.", file=str(path)
        ) from error
    return x, y.astype(np.int64) if y.dtype.kind in "iu" else y, np.array(keys)


def folder(path: str | Path, *, size: int = 32, channels: int = 3) -> Dataset:
    """Images as `client/class/name.png`: x is (n, channels, size, size) in 0 to 1, classes are named by their folders.

    Raises FileError for what is no image, MissingError where Pillow is.
    """
    files = [file for file in _files(Path(path)) if file.suffix.lower() in _IMAGES and len(file.parts) == 3]
    if not files:
        raise FileError(f"{path} has no client/class/image files", hint="ann/cat/1.png is one.", file=str(path))
    y, classes = coded(np.array([file.parts[1] for file in files]))
    x = np.stack([_image(Path(path) / file, size, channels) for file in files])
    return Dataset(x, y, np.array([file.parts[0] for file in files]), classes=classes)


def _files(root: Path) -> Iterator[Path]:
    for file in sorted(root.rglob("*")):
        if file.is_file():
            yield file.relative_to(root)


def _image(file: Path, size: int, channels: int) -> NDArray[np.float32]:
    try:
        from PIL import Image
    except ModuleNotFoundError as error:
        raise MissingError("reading images needs Pillow", hint="pip install 'nexus[data]'") from error
    try:
        with Image.open(file) as opened:
            image = opened.convert("L" if channels == 1 else "RGB").resize((size, size))
    except OSError as error:
        raise FileError(f"{file} is no image: {error}", hint="Take it out of the folder.", file=str(file)) from error
    values = np.asarray(image, np.float32).reshape(size, size, channels) / np.float32(255)
    return np.ascontiguousarray(values.transpose(2, 0, 1))


def text(path: str | Path, *, window: int = 80, step: int = 0) -> Dataset:
    """Plain text by client (`ann.txt`, or `ann/*.txt`): the next character after each `window` of them.

    x is (n, window) of codes, y the code that follows, `classes` the characters. Windows start every `step`
    characters (0: every `window`). Raises FileError.
    """
    root = Path(path)
    texts: dict[str, str] = {}
    for file in _files(root):
        if file.suffix == ".txt":
            try:
                said = (root / file).read_text("utf-8")
            except (OSError, UnicodeDecodeError) as error:
                raise FileError(f"cannot read {file}: {error}", hint="Text must be UTF-8.", file=str(file)) from error
            key = file.parts[0] if len(file.parts) > 1 else file.stem
            texts[key] = texts.get(key, "") + said
    return next_character(texts, window=window, step=step or window, name=str(path))


def next_character(texts: dict[str, str], *, window: int, step: int, name: str) -> Dataset:
    """The next character after each window, by key. Who has no whole window is left out. Raises UsageError."""
    if window < 1 or step < 1:
        raise UsageError("window and step must be 1 or more", hint="LEAF's windows are of 80 characters.")
    alphabet = np.unique(np.array([ord(char) for char in sorted(set("".join(texts.values())))], np.int64))
    inputs: list[NDArray[np.int64]] = []
    keys: list[str] = []
    for key in sorted(texts):
        codes = np.searchsorted(alphabet, np.frombuffer(texts[key].encode("utf-32-le"), np.uint32))
        if len(codes) > window:
            windows = np.lib.stride_tricks.sliding_window_view(codes, window + 1)[::step]
            inputs.append(windows.astype(np.int64))
            keys += [key] * len(windows)
    if not inputs:
        raise UsageError(f"{name} has no text longer than {window} characters", hint="Take a shorter window.")
    whole = np.concatenate(inputs)
    classes: Sequence[str] = [chr(code) for code in alphabet.tolist()]
    return Dataset(np.ascontiguousarray(whole[:, :-1]), whole[:, -1].copy(), np.array(keys), classes=tuple(classes))
