"""What every loader gives."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nexus.federate.core.partition import deal
from nexus.federate.core.task import FederatedData
from nexus.kernel.errors import UsageError

Values = NDArray[Any]


@dataclass(frozen=True)
class Dataset:
    """Samples `x`, their labels `y`, and whose each is (`keys`, where the data says so).

    `test` is a held-out (x, y) where the data has one; `split` makes one. `classes` name the labels 0, 1, ...
    """

    x: Values
    y: Values
    keys: Values | None = None
    test: tuple[Values, Values] | None = None
    classes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Raises UsageError for no samples, or inputs, labels and keys of different number."""
        lengths = {"inputs": len(self.x), "labels": len(self.y)} | (
            {} if self.keys is None else {"keys": len(self.keys)}
        )
        if len(set(lengths.values())) != 1 or not len(self.x):
            said = ", ".join(f"{count} {name}" for name, count in lengths.items())
            raise UsageError(f"a data set of {said}", hint="There must be one of each for every sample.")

    def __len__(self) -> int:
        return len(self.x)

    def split(self, held_out: float = 0.2) -> Dataset:
        """The same with every so many-th sample held out as `test`: always the same. Raises UsageError."""
        if not 0 < held_out < 1:
            raise UsageError(f"held_out must be between 0 and 1, not {held_out:g}", hint="0.2: every fifth sample.")
        position = np.arange(len(self))
        out = np.floor((position + 1) * held_out) > np.floor(position * held_out)
        keys = None if self.keys is None else self.keys[~out]
        return Dataset(self.x[~out], self.y[~out], keys, (self.x[out], self.y[out]), self.classes)

    def deal(self, clients: int = 0, how: str = "", *, seed: int = 0, **options: Any) -> FederatedData:
        """Its clients, by a way of `federate.deal`; by its own keys where it has some and no `how` is said.

        Tensors, ready for a `Task`. Raises UsageError, NotFoundError, MissingError where there is no PyTorch.
        """
        way = how or ("iid" if self.keys is None else "by_key")
        by = self.keys if way == "by_key" else self.y
        if by is None:
            raise UsageError("this data does not say whose each sample is", hint='Take another way: how="dirichlet".')
        parts = deal(by, clients, way, seed=seed, **options)
        x, y = tensors((self.x, self.y))
        return FederatedData(x, y, parts)

    @property
    def held_out(self) -> tuple[Any, Any] | None:
        """`test` as tensors, for `Task(test=...)`."""
        return None if self.test is None else tensors(self.test)


def tensors(pair: tuple[Values, Values]) -> tuple[Any, Any]:
    """As PyTorch's, in the same memory where it may be written."""
    import torch

    x, y = (torch.from_numpy(part if part.flags.writeable else part.copy()) for part in pair)
    return x, y


def coded(values: Values) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """Labels as 0, 1, ... in the order of their names, and the names."""
    names, codes = np.unique(values, return_inverse=True)
    return codes.astype(np.int64), tuple(str(name) for name in names.tolist())
