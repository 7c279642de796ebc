"""Fold 100 MB updates into a running sum on one core: GB of updates a second, and how memory grows with their number.

python -m bench.federate_fold
"""

from __future__ import annotations

import os
import platform
import resource
import time

import numpy as np
import torch

from bench.peer import Figure, report
from nexus.federate.core.total import OrderedFold

LENGTH, REPEAT = 25_000_000, 5


def fold(count: int, vectors: list[np.ndarray]) -> float:
    """CPU seconds for `count` updates."""
    folded = OrderedFold(count, {"delta": LENGTH})
    began = time.process_time()
    for position in range(count):
        folded.add(position, {"delta": vectors[position % len(vectors)]}, 3.0 + position)
    folded.finish()
    return time.process_time() - began


def peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    torch.set_num_threads(1)
    vectors = [np.random.default_rng(seed).random(LENGTH, np.float32) for seed in range(4)]
    fold(16, vectors)
    few = peak_mb()
    rates = [50 * LENGTH * 4 / fold(50, vectors) / 1e9 for _ in range(REPEAT)]
    many = peak_mb()
    lines = [
        "# Folding updates",
        "",
        (
            f"`python -m bench.federate_fold` on {os.cpu_count()} cores, Python {platform.python_version()}, load "
            f"{os.getloadavg()[0]:.1f}. 50 updates of 100 MB, one thread, {REPEAT} times; CPU time."
        ),
        "",
        f"- {Figure(rates)} GB/s, with the sums of blocks closed and merged on the way",
        f"- peak memory after 16 updates {few:.0f} MB, after 50 updates {many:.0f} MB",
    ]
    report("federate_fold", "\n".join(lines))


if __name__ == "__main__":
    main()
