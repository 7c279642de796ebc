"""Data sets by name: those that ship in packages, and those that `nexus federate fetch` has brought."""

from __future__ import annotations

import gzip
import re
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nexus.federate.data.dataset import Dataset
from nexus.federate.data.fetching import FETCHED, place
from nexus.federate.data.folders import next_character
from nexus.kernel.errors import FileError, MissingError, NotFoundError

_IDX = {8: "u1", 9: "i1", 11: ">i2", 12: ">i4", 13: ">f4", 14: ">f8"}  # by the third byte
_SPEAKER = re.compile(r"^([A-Z][A-Za-z ]{1,30})\.$")
_IN_PACKAGES = ("breast_cancer", "diabetes", "digits", "iris", "wine")


def names() -> tuple[str, ...]:
    """Every name that `load` knows."""
    return (*_IN_PACKAGES, *FETCHED)


def load(name: str, **options: Any) -> Dataset:
    """`digits`, `breast_cancer`, `iris`, `wine` and `diabetes` come with scikit-learn; a fifth is held out.

    `mnist` and `fashion_mnist` (1 x 28 x 28, in 0 to 1) and `shakespeare` (the next character; roles are clients;
    `window`, `step`) are fetched once by `nexus federate fetch NAME`.
    Raises NotFoundError, MissingError for what is not installed or fetched.
    """
    if name in _IN_PACKAGES:
        return _sklearn(name)
    reader: Callable[..., Dataset] | None = {
        "mnist": _images,
        "fashion_mnist": _images,
        "shakespeare": _plays,
    }.get(name)
    if reader is None:
        raise NotFoundError(f"there is no data set {name!r}", hint=f"There are: {', '.join(names())}.")
    folder = place(name)
    if not folder.is_dir():
        raise MissingError(f"{name} is not on this machine", hint=f"nexus federate fetch {name}")
    return reader(folder, **options)


def _sklearn(name: str) -> Dataset:
    try:
        from sklearn import datasets
    except ModuleNotFoundError as error:
        raise MissingError(f"{name} comes with scikit-learn", hint="pip install 'nexus[data]'") from error
    found = getattr(datasets, f"load_{name}")()
    if name == "digits":
        x = (found.images / 16.0).astype(np.float32)[:, None]
    else:
        x = ((found.data - found.data.mean(axis=0)) / found.data.std(axis=0)).astype(np.float32)
    y = found.target.astype(np.float32 if name == "diabetes" else np.int64)
    classes = tuple(str(one) for one in getattr(found, "target_names", ()))
    return Dataset(x, y, classes=classes).split()


def _images(folder: Path) -> Dataset:
    def pair(part: str) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        images, labels = (idx(_one(folder, f"{part}-{kind}*")) for kind in ("images-idx3", "labels-idx1"))
        return images.astype(np.float32)[:, None] / np.float32(255), labels.astype(np.int64)

    x, y = pair("train")
    return Dataset(x, y, test=pair("t10k"), classes=tuple(map(str, range(10))))


def _one(folder: Path, pattern: str) -> Path:
    found = sorted(folder.glob(pattern))
    if not found:
        raise FileError(f"{folder} has no {pattern}", hint="Fetch it again.", file=str(folder))
    return found[0]


def idx(path: Path) -> NDArray[Any]:
    """An array in the IDX format, gzipped or not. Raises FileError."""
    try:
        data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError) as error:
        raise FileError(f"cannot read {path}: {error}", hint="Fetch it again.", file=str(path)) from error
    kind, axes = (data[2], data[3]) if len(data) >= 4 and data[:2] == b"\0\0" else (0, 0)
    dtype = np.dtype(_IDX.get(kind, "u1"))
    shape = np.frombuffer(data, ">u4", count=axes, offset=4).astype(int) if len(data) >= 4 + 4 * axes else np.zeros(1)
    if kind not in _IDX or len(data) != 4 + 4 * axes + int(np.prod(shape)) * dtype.itemsize:
        raise FileError(f"{path} is not an IDX file", hint="Fetch it again.", file=str(path))
    return np.frombuffer(data, dtype, offset=4 + 4 * axes).reshape(tuple(shape))


def _plays(folder: Path, *, window: int = 80, step: int = 0, least: int = 10) -> Dataset:
    """Roles with `least` speeches or more, each in its own play."""
    speeches: dict[str, list[str]] = {}
    with tarfile.open(_one(folder, "*.tar.gz")) as archive:
        for member in sorted(archive.getmembers(), key=lambda one: one.name):
            if not member.name.endswith("_gut.txt"):
                continue
            file = archive.extractfile(member)
            if file is not None:
                play = Path(member.name).stem.removesuffix("_gut")
                for role, speech in spoken(file.read().decode("utf-8", "replace")):
                    speeches.setdefault(f"{play}/{role}", []).append(speech)
    texts = {key: "\n".join(said) for key, said in speeches.items() if len(said) >= least}
    return next_character(texts, window=window, step=step or window, name="shakespeare")


def spoken(play: str) -> list[tuple[str, str]]:
    """Who says what: a line that is a name and a full stop, then lines until an empty one."""
    found: list[tuple[str, str]] = []
    role, lines = "", [""]
    for line in [*play.splitlines(), ""]:
        named = _SPEAKER.match(line)
        if named and not role:
            role, lines = named[1], []
        elif role and not line.strip():
            if lines:
                found.append((role, "\n".join(lines)))
            role = ""
        elif role:
            lines.append(line)
    return found
