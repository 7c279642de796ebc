"""Data sets of Hugging Face, by their own library."""

from __future__ import annotations

from typing import Any

import numpy as np

from nexus.federate.data.dataset import Dataset
from nexus.federate.data.tables import table
from nexus.kernel.errors import MissingError, UnavailableError, UsageError


def huggingface(
    name: str, *, label: str, split: str = "train", client: str | None = None, image: str = "", **options: Any
) -> Dataset:
    """A data set of the hub, or of a folder on this machine. Columns are read as a table's; or one is an `image`.

    `options` go to `datasets.load_dataset`, which keeps what it fetched. No code of the data set is run.
    Raises MissingError, UnavailableError, UsageError.
    """
    try:
        from datasets import load_dataset
    except ModuleNotFoundError as error:
        raise MissingError("the hub's data sets need datasets", hint="pip install 'nexus[hub]'") from error
    try:
        found = load_dataset(name, split=split, **options)
    except (OSError, ValueError) as error:
        raise UnavailableError(
            f"cannot load {name}: {error}", hint="Look at its name and split, and the net."
        ) from error
    return of_rows(found, name, label=label, client=client, image=image)


def of_rows(found: Any, name: str, *, label: str, client: str | None, image: str) -> Dataset:
    """What a loaded split holds. Raises UsageError."""
    for wanted in filter(None, (label, client, image)):
        if wanted not in found.column_names:
            raise UsageError(f"{name} has no column {wanted!r}", hint=f"It has: {', '.join(found.column_names)}.")
    if not image:
        columns = {column: np.asarray(found[column][:]) for column in found.column_names}
        return table(columns, name, label=label, client=client)
    pixels = np.stack([np.asarray(one, np.float32) / np.float32(255) for one in found[image]])
    x = pixels[:, None] if pixels.ndim == 3 else np.ascontiguousarray(pixels.transpose(0, 3, 1, 2))
    keys = np.array([str(one) for one in found[client]]) if client else None
    return Dataset(x, np.asarray(found[label][:], np.int64), keys)
