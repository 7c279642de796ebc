"""Tables: CSV and Parquet, with a column that is the label and perhaps one that says whose the row is."""

from __future__ import annotations

import csv as reader
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nexus.federate.data.dataset import Dataset, coded
from nexus.kernel.errors import FileError, MissingError, UsageError

_MOST_KINDS = 100  # values of a column of words that become a column each
Columns = Mapping[str, NDArray[Any]]


def csv(path: str | Path, *, label: str, client: str | None = None, drop: Sequence[str] = ()) -> Dataset:
    """A CSV file with a head. See `table`. Raises FileError, UsageError."""
    return table(csv_columns(path), str(path), label=label, client=client, drop=drop)


def parquet(path: str | Path, *, label: str, client: str | None = None, drop: Sequence[str] = ()) -> Dataset:
    """A Parquet file. See `table`. Raises FileError, UsageError, MissingError where pyarrow is."""
    return table(parquet_columns(path), str(path), label=label, client=client, drop=drop)


def table(columns: Columns, name: str, *, label: str, client: str | None = None, drop: Sequence[str] = ()) -> Dataset:
    """Columns of numbers become features as they are, those of words one feature for each word.

    A label of fractions stays a number (float32); one of whole numbers or words becomes classes 0, 1, ...
    Raises UsageError for a column that is not there, cells without a value, or too many words.
    """
    for wanted in (label, *([client] if client else []), *drop):
        if wanted not in columns:
            raise UsageError(f"{name} has no column {wanted!r}", hint=f"It has: {', '.join(columns)}.")
    features = [_features(c, v, name) for c, v in columns.items() if c not in {label, client, *drop}]
    if not features:
        raise UsageError(f"{name} has no column to learn from", hint="Every column is the label, a client or dropped.")
    keys = columns[client] if client else None
    _no_gaps(label, columns[label], name)
    target = columns[label]
    if target.dtype.kind == "f" and not np.array_equal(target, np.rint(target)):
        return Dataset(np.concatenate(features, axis=1), target.astype(np.float32), keys)
    y, classes = coded(target.astype(np.int64) if target.dtype.kind == "f" else target)
    return Dataset(np.concatenate(features, axis=1), y, keys, classes=classes)


def csv_columns(path: str | Path) -> dict[str, NDArray[Any]]:
    """A file's columns: float64 where every cell is a number, else words. Raises FileError."""
    file = Path(path)
    try:
        with file.open(newline="", encoding="utf-8-sig") as opened:
            rows = reader.reader(opened)
            head = next(rows, [])
            cells: list[list[str]] = [[] for _ in head]
            for row in rows:
                if not row:
                    continue
                if len(row) != len(head):
                    raise FileError(
                        f"{len(row)} cells where the head has {len(head)}",
                        hint="Every line needs a cell for each column; quote those with commas.",
                        file=str(file),
                        line=rows.line_num,
                    )
                for column, cell in zip(cells, row, strict=True):
                    column.append(cell.strip())
    except (OSError, UnicodeDecodeError, reader.Error) as error:
        raise FileError(f"cannot read {file}: {error}", hint="Name a CSV file in UTF-8.", file=str(file)) from error
    if not head or not cells[0]:
        raise FileError(f"{file} has no rows", hint="The first line names the columns.", file=str(file))
    if len(set(head)) != len(head):
        raise FileError(f"{file} has two columns of one name", hint="Rename one.", file=str(file), line=1)
    return {name.strip(): _typed(column) for name, column in zip(head, cells, strict=True)}


def parquet_columns(path: str | Path) -> dict[str, NDArray[Any]]:
    """A file's columns. Raises FileError, MissingError."""
    try:
        from pyarrow import ArrowException
        from pyarrow.parquet import read_table
    except ModuleNotFoundError as error:
        raise MissingError("reading Parquet needs pyarrow", hint="pip install 'nexus[data]'") from error
    try:
        found = read_table(path)
    except (OSError, ArrowException) as error:
        raise FileError(f"cannot read {path}: {error}", hint="Name a Parquet file.", file=str(path)) from error
    columns = {}
    for name in found.column_names:
        values = found.column(name).to_numpy(zero_copy_only=False)
        columns[name] = values if values.dtype.kind in "biuf" else _words(values)
    return columns


def _features(column: str, values: NDArray[Any], name: str) -> NDArray[np.float32]:
    _no_gaps(column, values, name)
    if values.dtype.kind in "biuf":
        return values.astype(np.float32)[:, None]
    kinds, codes = np.unique(values, return_inverse=True)
    if len(kinds) > _MOST_KINDS:
        raise UsageError(
            f"column {column!r} of {name} has {len(kinds)} different words",
            hint=f"Leave it out: drop=[{column!r}]. Up to {_MOST_KINDS} become a feature each.",
        )
    return np.eye(len(kinds), dtype=np.float32)[codes]


def _no_gaps(column: str, values: NDArray[Any], name: str) -> None:
    gaps = np.flatnonzero(~np.isfinite(values) if values.dtype.kind == "f" else values == "")
    if values.dtype.kind not in "biu" and len(gaps):
        raise UsageError(
            f"column {column!r} of {name} has {len(gaps)} cells without a value, the first in row {gaps[0] + 1}",
            hint="Fill them, or leave the column out with drop=[...].",
        )


def _typed(cells: Sequence[str]) -> NDArray[Any]:
    try:
        return np.array([float(cell) if cell else np.nan for cell in cells])
    except ValueError:
        return np.array(cells)


def _words(values: NDArray[Any]) -> NDArray[Any]:
    return np.array(["" if value is None else str(value) for value in values.tolist()])
