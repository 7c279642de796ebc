"""Feature shift: the same things look different to every client.

Each client's inputs are changed in its own way, always the same one: cameras stand at angles, sensors are noisy or have
another gain. NIID-Bench's `noise-based feature imbalance` is `noise`, where client i of n gets strength * i / n.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nexus.federate.core.seeds import derive
from nexus.federate.core.task import FederatedData, Pair
from nexus.kernel.errors import UsageError

_WAYS = ("rotation", "noise", "scale")


@dataclass(frozen=True)
class ShiftedData(FederatedData):
    """`x` as each client sees it.

    `rotation`: images (the last two axes) turned by an angle of 0 to `strength` degrees, one for each client in equal
    steps; `noise`: Gaussian of a standard deviation of 0 to `strength`, likewise; `scale`: features times
    exp(N(0, strength)), drawn for each client and feature. Raises UsageError.
    """

    how: str = "noise"
    strength: float = 0.1
    seed: int = 0

    def __post_init__(self) -> None:
        """Raises UsageError."""
        if self.how not in _WAYS:
            raise UsageError(f"there is no shift {self.how!r}", hint=f"There are: {', '.join(_WAYS)}.")
        if not 0 <= self.strength < float("inf"):
            raise UsageError(f"strength must be 0 or more, not {self.strength:g}", hint="0 shifts nothing.")
        if self.how == "rotation" and np.ndim(self.x) < 3:
            raise UsageError("only images can be turned", hint="x must have rows, and two more axes at least.")

    def __call__(self, client: int) -> Pair:
        x, y = super().__call__(client)
        shifted = self._shifted(np.asarray(x, np.float32), client)
        if isinstance(x, np.ndarray):
            return shifted, y
        return type(x)(shifted) if isinstance(x, list) else x.new_tensor(shifted), y

    def _shifted(self, x: NDArray[np.float32], client: int) -> NDArray[np.float32]:
        own = self.strength * client / max(len(self) - 1, 1)
        dice = np.random.default_rng(derive(self.seed, "shift", client))
        if self.how == "noise":
            return x + np.float32(own) * dice.normal(size=x.shape).astype(np.float32)
        if self.how == "scale":
            return x * np.exp(dice.normal(scale=self.strength, size=x.shape[1:])).astype(np.float32)
        return rotated(x, own)


def rotated(images: NDArray[np.float32], degrees: float) -> NDArray[np.float32]:
    """Images turned counter-clockwise about their middle, by bilinear interpolation; what lies outside is 0."""
    height, width = images.shape[-2:]
    middle_y, middle_x = (height - 1) / 2, (width - 1) / 2
    angle = np.deg2rad(degrees)
    ys, xs = np.mgrid[0:height, 0:width]
    from_y = np.cos(angle) * (ys - middle_y) + np.sin(angle) * (xs - middle_x) + middle_y
    from_x = -np.sin(angle) * (ys - middle_y) + np.cos(angle) * (xs - middle_x) + middle_x
    low_y, low_x = np.floor(from_y).astype(int), np.floor(from_x).astype(int)
    turned = np.zeros_like(images)
    for step_y in (0, 1):
        for step_x in (0, 1):
            y, x = low_y + step_y, low_x + step_x
            weight = (1 - np.abs(from_y - y)) * (1 - np.abs(from_x - x))
            inside = (y >= 0) & (y < height) & (x >= 0) & (x < width)
            values = images[..., y.clip(0, height - 1), x.clip(0, width - 1)]
            turned += values * (weight * inside).astype(np.float32)
    return turned


def shift(data: FederatedData, how: str, *, strength: float, seed: int = 0) -> Any:
    """`data`, seen by each client in its own way. Raises UsageError."""
    return ShiftedData(data.x, data.y, data.parts, how=how, strength=strength, seed=seed)
