"""How good the algorithms get, beside published figures on the same data. One table a command:

    OMP_NUM_THREADS=1 python -m bench.federate_convergence flower [ROUNDS] [SEEDS]
    OMP_NUM_THREADS=1 python -m bench.federate_convergence niid [mnist|fashion_mnist] [ROUNDS]
    OMP_NUM_THREADS=1 python -m bench.federate_convergence schedules

`flower`: Flower's FedAvg baseline on MNIST: the CNN of McMahan et al. 2017 (1,663,370 parameters), 100 clients of two
shards each, ten a round, batches of 10, SGD 0.1: after how many rounds the test accuracy is first 97 % and 99 %.
Beside it are the figures of the histories that Flower's repository keeps. About ten seconds a round on two cores.

`niid`: NIID-Bench's table for ten clients, smaller: every sixth sample, 20 rounds of 2 epochs where the paper has 50 of
10, and plain SGD of rate 0.1 where it has momentum 0.9 at 0.01; the best accuracy of a run. The same order of the
algorithms is what to look for, not the same figures: those of Flower's `niid_bench` baseline are in brackets.

`schedules`: accuracy against virtual seconds on scikit-learn's digits, with devices of very unequal speed.

The data is fetched on first use, as by `nexus federate fetch`.
"""

from __future__ import annotations

import os
import platform
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

from torch import nn
from torch.nn import functional

from bench.peer import report
from nexus.federate import Local, Part, Settings, Task, accuracy, data
from nexus.federate.adapters.loader import load_task
from nexus.federate.data.dataset import Dataset
from nexus.federate.data.fetching import fetch, place
from nexus.federate.model import Round
from nexus.federate.simulation import simulate

ROOT = Path(__file__).parent.parent
NIID = {  # NIID-Bench's columns as Flower's baseline reproduces them, in percent: dealt how, FedAvg ... FedNova
    "mnist": {
        "iid": ("99.1", "99.1", "99.2", "99.1"),
        "dirichlet 0.5": ("98.9", "99.1", "99.0", "98.0"),
        "2 classes": ("96.9", "96.9", "96.9", "96.7"),
        "1 class": ("19.3", "9.9", "51.8", "52.6"),
    },
    "fashion_mnist": {
        "iid": ("89.2", "89.3", "89.4", "89.4"),
        "dirichlet 0.5": ("88.1", "88.4", "88.2", "88.2"),
        "2 classes": ("78.1", "33.8", "78.1", "71.7"),
        "1 class": ("28.4", "10.0", "32.7", "16.9"),
    },
}
ALGORITHMS: dict[str, dict[str, float]] = {"fedavg": {}, "scaffold": {}, "fedprox": {"mu": 0.01}, "fednova": {}}
PARTITIONS: dict[str, tuple[str, dict[str, Any]]] = {
    "dirichlet 0.5": ("dirichlet", {"alpha": 0.5}),
    "2 classes": ("label_count", {"each": 2}),
    "1 class": ("label_count", {"each": 1}),
    "iid": ("iid", {}),
}


def loaded(name: str) -> Dataset:
    if not place(name).is_dir():
        print(f"fetching {name}", flush=True)
        fetch(name)
    return data.load(name)


def told(label: str, record: Round) -> None:
    """A line on stderr for every round."""
    sys.stderr.write(f"{label} {record.number} {record.metrics['accuracy']:.4f} {record.seconds:.1f}s\n")


# --------------------------------------------------------------------------- Flower's FedAvg on MNIST


def mcmahan() -> nn.Module:
    """Two 5x5 convolutions of 32 and 64 channels, 512 units: 1,663,370 parameters."""
    return nn.Sequential(
        nn.Conv2d(1, 32, 5, padding=2),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(32, 64, 5, padding=2),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(3136, 512),
        nn.ReLU(),
        nn.Linear(512, 10),
    )


def first(rounds: Sequence[Round], wanted: float) -> str:
    reached = (record.number for record in rounds if record.metrics["accuracy"] >= wanted)
    return str(next(reached, f"> {len(rounds)}"))


def flower(rounds: int, seeds: int) -> None:
    mnist = loaded("mnist")
    theirs = {1: ("27", "123"), 5: ("20", "104")}
    lines = ["| local epochs | seed | to 97 % | to 99 % | Flower to 97 % | to 99 % | last accuracy | s/round |"]
    lines.append("|---|---|---|---|---|---|---|---|")
    for epochs in (1, 5):
        for seed in range(1, seeds + 1):
            task = Task(
                model=mcmahan,
                data=mnist.deal(100, "shards", each=2, seed=seed),
                loss=functional.cross_entropy,
                metrics={"accuracy": accuracy},
                test=mnist.held_out,
                settings=Settings(rounds=rounds, cohort=10, seed=seed, local=Local(epochs=epochs, batch=10, lr=0.1)),
            )
            began = time.monotonic()
            done = simulate(task, task.settings, each=partial(told, f"E={epochs}")).rounds
            spent = (time.monotonic() - began) / len(done)
            ours = (first(done, 0.97), first(done, 0.99))
            last = done[-1].metrics["accuracy"]
            lines.append(f"| {epochs} | {seed} | {' | '.join((*ours, *theirs[epochs]))} | {last:.4f} | {spent:.1f} |")
    keep("federate_flower", f"flower {rounds} {seeds}", "FedAvg on MNIST, beside Flower's baseline", lines)


# --------------------------------------------------------------------------- NIID-Bench


def lenet() -> nn.Module:
    """NIID-Bench's simple CNN: 44,426 parameters."""
    return nn.Sequential(
        nn.Conv2d(1, 6, 5),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(6, 16, 5),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(256, 120),
        nn.ReLU(),
        nn.Linear(120, 84),
        nn.ReLU(),
        nn.Linear(84, 10),
    )


def niid(name: str, rounds: int) -> None:
    whole = loaded(name)
    part = Dataset(whole.x[::6], whole.y[::6], test=whole.test, classes=whole.classes)
    lines = [f"| dealt out | {' | '.join(ALGORITHMS)} |", "|---" * (1 + len(ALGORITHMS)) + "|"]
    for label, (way, options) in PARTITIONS.items():
        task = Task(
            model=lenet,
            data=part.deal(10, way, seed=1, **options),
            loss=functional.cross_entropy,
            metrics={"accuracy": accuracy},
            test=part.held_out,
            settings=Settings(rounds=rounds, cohort=10, seed=1, local=Local(epochs=2, batch=64, lr=0.1)),
        )
        cells = []
        for (algorithm, chosen), published in zip(ALGORITHMS.items(), NIID[name][label], strict=True):
            settings = replace(task.settings, algorithm=algorithm, options=dict(chosen))
            best = max(record.metrics["accuracy"] for record in simulate(task, settings).rounds)
            sys.stderr.write(f"{label} {algorithm} {best:.4f}\n")
            cells.append(f"{100 * best:.1f} ({published})")
        lines.append(f"| {label} | {' | '.join(cells)} |")
        keep(f"federate_niid_{name}", f"niid {name} {rounds}", f"NIID-Bench on {name}, smaller", lines)


# --------------------------------------------------------------------------- schedules


def schedules() -> None:
    task = load_task(ROOT / "examples" / "federated" / "app.py")
    ways: dict[str, tuple[dict[str, Any], int]] = {
        "waits for all": ({}, 40),
        "deadline of 2 s": ({"deadline_s": 2.0, "quorum": 0.1}, 40),
        "asks 1.5 times as many": ({"schedule": Part("sync", {"over": 1.5})}, 40),
        "buffered, 3 of 10": ({"schedule": Part("buffered", {"part": 0.3})}, 133),
        "buffered, 5 of 10": ({"schedule": Part("buffered", {"part": 0.5})}, 80),
        "two groups, twice each": ({"schedule": Part("hierarchical")}, 20),
        "ring": ({"schedule": Part("ring")}, 40),
    }
    marks = (0.7, 0.8, 0.9)
    lines = [f"| schedule | {' | '.join(f's to {mark:.0%}' for mark in marks)} | seconds in all | last accuracy |"]
    lines.append("|---" * (3 + len(marks)) + "|")
    for label, (changes, rounds) in ways.items():
        found: list[list[float]] = []
        for seed in (1, 2, 3):
            settings = replace(task.settings, rounds=rounds, seed=seed, devices=Part("random", {"spread": 1.5}))
            done = simulate(task, replace(settings, **changes)).rounds
            reached = [[r.notes["virtual_s"] for r in done if r.metrics["accuracy"] >= mark] for mark in marks]
            times = [each[0] if each else float("inf") for each in reached]
            found.append([*times, done[-1].notes["virtual_s"], done[-1].metrics["accuracy"]])
        *times, whole, last = (median(column) for column in zip(*found, strict=True))
        cells = [f"{value:.0f}" if value < float("inf") else "never" for value in times]
        lines.append(f"| {label} | {' | '.join(cells)} | {whole:.0f} | {last:.3f} |")
        sys.stderr.write(lines[-1] + "\n")
    keep("federate_schedules", "schedules", "Accuracy against virtual seconds, median of three seeds", lines)


def keep(file: str, arguments: str, title: str, lines: Sequence[str]) -> None:
    where = f"{os.cpu_count()} cores, Python {platform.python_version()}, load {os.getloadavg()[0]:.1f}"
    command = f"`OMP_NUM_THREADS=1 python -m bench.federate_convergence {arguments}` on {where}."
    report(file, "\n".join([f"# {title}", "", command, "", *lines]))


def main() -> None:
    which, *rest = sys.argv[1:] or [""]
    if which == "flower":
        flower(int(rest[0]) if rest else 130, int(rest[1]) if rest[1:] else 1)
    elif which == "niid":
        niid(rest[0] if rest else "mnist", int(rest[1]) if rest[1:] else 20)
    elif which == "schedules":
        schedules()
    else:
        raise SystemExit(__doc__)


if __name__ == "__main__":
    main()
