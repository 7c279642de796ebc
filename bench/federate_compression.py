"""Fewer bytes, and what they cost: each compression beside none, with and without its memory.

FedLab's row is that top-k and QSGD send a tenth of the bytes and lose no accuracy. Here: MNIST (`nexus federate fetch
mnist` first; digits where it is not there), 100 clients, Dirichlet(0.5), a tenth of them in each round, one epoch in
batches of 20, a network of 784-64-10.

    python -m bench.federate_compression [ROUNDS]
"""

from __future__ import annotations

import sys
import time
from dataclasses import replace
from pathlib import Path

from torch import nn

from nexus import federate
from nexus.federate.data.fetching import place
from nexus.federate.model import Part
from nexus.federate.simulation import simulate

RESULT = Path(__file__).parent / "results" / "federate_compression.md"
WAYS = (
    None,
    Part("top_k", {"part": 0.07}),
    Part("top_k", {"part": 0.07, "memory": 0}),
    Part("top_k", {"part": 0.01}),
    Part("top_k", {"part": 0.01, "memory": 0}),
    Part("random_k", {"part": 0.07}),
    Part("qsgd", {"bits": 8}),
    Part("qsgd", {"bits": 4}),
    Part("qsgd", {"bits": 2}),
    Part("sign"),
    Part("sign", {"memory": 0}),
)


def task(rounds: int) -> tuple[str, federate.Task]:
    name = "mnist" if place("mnist").is_dir() else "digits"
    found = federate.data.load(name)
    clients = 100 if name == "mnist" else 20
    return name, federate.Task(
        model=lambda: nn.Sequential(nn.Flatten(), nn.Linear(found.x[0].size, 64), nn.ReLU(), nn.Linear(64, 10)),
        data=found.deal(clients, "dirichlet", alpha=0.5, seed=1),
        loss=nn.functional.cross_entropy,
        metrics={"accuracy": federate.accuracy},
        test=found.held_out,
        settings=federate.Settings(
            rounds=rounds, cohort=clients // 10, seed=1, local=federate.Local(epochs=1, batch=20, lr=0.1)
        ),
    )


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 60
    name, made = task(rounds)
    lines = [
        f"# Compression: {name}, {made.clients} clients, {rounds} rounds",
        "",
        "| way | bytes up a client and round | fewer | accuracy | mean of the last five | seconds |",
        "|---|---|---|---|---|---|",
    ]
    plain = 0.0
    for way in WAYS:
        began = time.perf_counter()
        done = simulate(made, replace(made.settings, compression=way), workers=1).rounds
        took = time.perf_counter() - began
        sent = sum(record.bytes_up for record in done) / sum(len(record.accepted) for record in done)
        plain = plain or sent
        last = [record.metrics["accuracy"] for record in done[-5:]]
        told = "none" if way is None else " ".join([way.name, *(f"{k}={v:g}" for k, v in way.options.items())])
        mean = sum(last) / len(last)
        lines.append(f"| {told} | {sent:.0f} | {plain / sent:.1f}x | {last[-1]:.4f} | {mean:.4f} | {took:.1f} |")
        print(lines[-1], flush=True)
    RESULT.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
