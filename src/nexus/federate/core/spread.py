"""How a data set is spread over clients: numbers, and a picture of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

_BINS = 10  # of labels that are no classes
_MOST_CLASSES = 100
_COLOURS = (
    "#4e79a7",
    "#f28e2b",
    "#59a14f",
    "#e15759",
    "#76b7b2",
    "#edc948",
    "#b07aa1",
    "#ff9da7",
    "#9c755f",
    "#bab0ac",
)
_SHADES = " ▏▎▍▌▋▊▉█"


@dataclass(frozen=True)
class Spread:
    """`counts`: how many samples of each class (columns) each client (rows) has."""

    classes: tuple[str, ...]
    counts: NDArray[np.int64]

    @property
    def sizes(self) -> NDArray[np.int64]:
        """Samples of each client."""
        sizes: NDArray[np.int64] = self.counts.sum(axis=1)
        return sizes

    @property
    def parts(self) -> NDArray[np.float64]:
        """Each client's label distribution."""
        return self.counts / np.maximum(self.sizes[:, None], 1)

    @property
    def entropy(self) -> NDArray[np.float64]:
        """Of each client's labels, in bits: 0 where it has one class only."""
        parts = self.parts
        logs = np.log2(parts, out=np.zeros_like(parts), where=parts > 0)
        entropy: NDArray[np.float64] = 0.0 - (parts * logs).sum(axis=1)
        return entropy

    @property
    def distances(self) -> NDArray[np.float64]:
        """Total variation between the label distributions of every two clients: 0 alike, 1 nothing in common."""
        parts = self.parts
        return np.stack([np.abs(parts - one).sum(axis=1) / 2 for one in parts])

    @property
    def heterogeneity(self) -> float:
        """Mean total variation between a client's labels and everybody's, by samples: 0 is IID, 1 the worst."""
        whole = self.counts.sum(axis=0) / max(int(self.counts.sum()), 1)
        far = np.abs(self.parts - whole).sum(axis=1) / 2
        return float((far * self.sizes).sum() / max(int(self.sizes.sum()), 1))

    @property
    def effective_clients(self) -> float:
        """How many clients of one size this is worth: all where sizes are equal, 1 where one has everything."""
        sizes = self.sizes.astype(np.float64)
        return float(sizes.sum() ** 2 / max((sizes**2).sum(), 1.0))

    def summary(self) -> dict[str, float]:
        """The numbers that people compare."""
        count = len(self.sizes)
        return {
            "clients": float(count),
            "samples": float(self.sizes.sum()),
            "least": float(self.sizes.min()),
            "most": float(self.sizes.max()),
            "effective_clients": self.effective_clients,
            "entropy_bits": float(self.entropy.mean()),
            "distance": float(self.distances.sum() / max(count * (count - 1), 1)),
            "heterogeneity": self.heterogeneity,
        }


def spread(clients: int, labels_of: Callable[[int], Any]) -> Spread:
    """Of `clients` whose labels `labels_of` gives. More than a hundred values go into ten bins of equal count."""
    each = [_column(labels_of(client)) for client in range(clients)]
    whole = np.concatenate(each)
    classes = np.unique(whole)
    if len(classes) > _MOST_CLASSES:
        edges = np.unique(np.quantile(whole, np.linspace(0, 1, _BINS + 1)))
        names = tuple(f"{low:g} to {high:g}" for low, high in pairwise(edges))
        coded = [np.searchsorted(edges[1:-1], one, side="right") for one in each]
    else:
        names = tuple(str(name) for name in classes.tolist())
        coded = [np.searchsorted(classes, one) for one in each]
    counts = np.array([np.bincount(one, minlength=len(names)) for one in coded], np.int64)
    return Spread(names, counts)


def bars(found: Spread, *, width: int = 40, most: int = 20) -> list[str]:
    """A line for each client (of the first `most`): a bar as long as its data, and the commonest classes."""
    lines = []
    longest = max(int(found.sizes.max()), 1)
    for client, size in enumerate(found.sizes[:most].tolist()):
        row = found.counts[client]
        eighths = round(size / longest * width * 8)
        bar = "█" * (eighths // 8) + (_SHADES[eighths % 8] if eighths % 8 else "")
        top = [label for label in np.argsort(-row, kind="stable")[:3].tolist() if row[label]]
        told = " ".join(f"{found.classes[label]}:{row[label] / max(size, 1):.0%}" for label in top)
        lines.append(f"{client:>6} {bar:<{width}} {size:>7}  {told}")
    if len(found.sizes) > most:
        lines.append(f"{'':>6} and {len(found.sizes) - most} more")
    return lines


def svg(found: Spread, *, most: int = 200) -> str:
    """A picture: a bar for each client (of the first `most`), cut by class."""
    rows = found.counts[:most]
    height, left, wide = max(4, min(18, 900 // len(rows))), 46, 640
    longest = max(int(rows.sum(axis=1).max()), 1)
    keys = _keys(found.classes, left, wide)
    top = 34 + 18 * (max(len(keys) - 1, 0) // 6 + 1)
    total = top + len(rows) * height + 12
    numbers = found.summary()
    sizes = f"{int(numbers['clients'])} clients, {int(numbers['samples'])} samples"
    head = f"{sizes}, heterogeneity {numbers['heterogeneity']:.2f}"
    opening = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {left + wide + 70} {total}" '
        'font-family="system-ui, sans-serif" font-size="11">'
    )
    body = [
        opening,
        f"<title>{head}</title>",
        f'<rect width="100%" height="100%" fill="#fff"/><text x="{left}" y="18" font-size="13">{head}</text>',
        *keys,
    ]
    for client, row in enumerate(rows):
        body += _bar(client, row, found.classes, (left, top + client * height, wide / longest, height))
    return "\n".join([*body, "</svg>", ""])


def _bar(client: int, row: NDArray[np.int64], classes: Sequence[str], place: tuple[int, int, float, int]) -> list[str]:
    left, y, scale, height = place
    found, x = [], float(left)
    if height >= 9:
        found.append(f'<text x="{left - 6}" y="{y + height - 4}" text-anchor="end">{client}</text>')
    for label in np.flatnonzero(row).tolist():
        wide = row[label] * scale
        found.append(
            f'<rect x="{x:.2f}" y="{y}" width="{wide:.2f}" height="{height - 1}" fill="{_colour(label)}">'
            f"<title>client {client}: {row[label]} of {escape(classes[label])}</title></rect>"
        )
        x += wide
    if height >= 9:
        found.append(f'<text x="{x + 5:.2f}" y="{y + height - 4}">{int(row.sum())}</text>')
    return found


def _keys(classes: Sequence[str], left: int, wide: int) -> list[str]:
    found = []
    for label, name in enumerate(classes[:24]):
        x, y = left + label % 6 * (wide // 6), 28 + label // 6 * 18
        found.append(
            f'<rect x="{x}" y="{y}" width="10" height="10" fill="{_colour(label)}"/>'
            f'<text x="{x + 14}" y="{y + 9}">{escape(name[:16])}</text>'
        )
    return found


def _colour(label: int) -> str:
    if label < len(_COLOURS):
        return _COLOURS[label]
    return f"hsl({label * 137 % 360} 45% {45 + label * 7 % 30}%)"


def _column(labels: Any) -> NDArray[Any]:
    """One value for each sample: of labels with more axes, the first of each."""
    values = np.asarray(labels)
    return values.reshape(len(values), -1)[:, 0] if values.ndim > 1 else values
