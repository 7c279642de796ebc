"""What a Slurm cluster has, read from its own words, as offers: a node, or a half, a quarter, an eighth of one.

Pure text and numbers; `providers.slurm` asks the cluster.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from nexus.launch.model import Capacity, Fleet, Gpu, Offer

_MIB, _GIB = 1024**2, 1024**3
_FIELD = re.compile(r"(\w+)=(.*?)(?=\s+[A-Za-z]\w*=|\s*$)")
_GRES = re.compile(r"gpu(?::([^:(,\d][^:(,]*))?:(\d+)")
_UNUSABLE = frozenset(
    {
        *("DOWN", "DRAIN", "DRAINED", "DRAINING", "ERROR", "FAIL", "FAILING", "FUTURE", "INVAL", "MAINT"),
        *("NOT_RESPONDING", "POWERING_DOWN", "REBOOT", "REBOOT_ISSUED", "REBOOT_REQUESTED", "RESERVED", "UNKNOWN"),
    }
)
_NOW_S, _QUEUE_S = 2.0, 600.0  # until an agent speaks: with room, and by a rough guess behind others' jobs
# Slurm knows a GPU's type and not its memory; of types that come in one size, it is known all the same.
_MEMORY_GIB = {
    16: ("a2", "a16", "p100", "t4"),
    24: ("a10", "a10g", "a30", "a5000", "l4", "rtx3090", "rtx4090"),
    32: ("rtx5090",),
    48: ("a40", "a6000", "l40", "l40s"),
    64: ("mi210",),
    80: ("h100",),
    128: ("mi250",),
    141: ("h200",),
    180: ("b200",),
    192: ("mi300x",),
    256: ("mi325x",),
    288: ("b300",),
}


@dataclass(frozen=True, slots=True)
class SlurmNode:
    """One node: what it has in all, and what no job holds. GPUs by type; memory 0: Slurm does not count it."""

    name: str
    cpus: int
    memory_mb: int
    gpus: tuple[tuple[str, int], ...]
    free_cpus: int
    free_memory_mb: int
    free_gpus: tuple[tuple[str, int], ...]
    host: str = ""
    address: str = ""


def read_nodes(text: str) -> dict[str, list[SlurmNode]]:
    """Nodes that take jobs, by partition, of `scontrol --detail --oneliner show nodes`."""
    found: dict[str, list[SlurmNode]] = {}
    for line in text.splitlines():
        words = dict(_FIELD.findall(line))
        if "NodeName" not in words or not _is_usable(words.get("State", "")):
            continue
        node = _node(words)
        for partition in filter(None, words.get("Partitions", "").split(",")):
            found.setdefault(partition, []).append(node)
    return found


def read_partitions(text: str) -> dict[str, bool]:
    """Partitions that are up, and whether they give whole nodes only, of `scontrol --oneliner show partitions`."""
    found = {}
    for line in text.splitlines():
        words = dict(_FIELD.findall(line))
        if words.get("PartitionName") and words.get("State") == "UP":
            found[words["PartitionName"]] = words.get("OverSubscribe") == "EXCLUSIVE"
    return found


def gres_of(gpus: Iterable[Gpu]) -> str:
    """What sbatch is asked for: `gpu:h100:2`; empty for none."""
    counts = Counter(gpu.name for gpu in gpus)
    return ",".join(f"gpu:{name}:{count}" if name != "gpu" else f"gpu:{count}" for name, count in counts.items())


def offers_of(
    fleet: Fleet, partitions: Mapping[str, bool], nodes: Mapping[str, list[SlurmNode]], settings: Mapping[str, Any]
) -> list[Offer]:
    """Every share of every shape of node, small ones first; those that must wait in Slurm's queue say so."""
    wanted = settings.get("partitions") or sorted(partitions)
    found = []
    for partition in wanted:
        shapes: dict[tuple[object, ...], list[SlurmNode]] = {}
        for node in nodes.get(partition, ()):
            shapes.setdefault((node.cpus, node.memory_mb, node.gpus), []).append(node)
        for alike in shapes.values():
            parts = [1] if partitions.get(partition, False) else list(_parts(alike[0]))
            found += [_offer(fleet, partition, alike, part, settings) for part in reversed(parts)]
    return found


def _offer(fleet: Fleet, partition: str, alike: list[SlurmNode], part: int, settings: Mapping[str, Any]) -> Offer:
    shape = alike[0]
    cpus, memory_mb = shape.cpus // part, shape.memory_mb // part
    gpus = tuple((name, count // part) for name, count in shape.gpus)
    free = sum(_free(node, cpus, memory_mb, dict(gpus)) for node in alike)
    sizes = [f"{cpus}cpu", *([f"{memory_mb // 1024}G"] if memory_mb else []), *(f"{n}x{name}" for name, n in gpus)]
    machine = f"{partition}/{'-'.join(sizes)}"
    return Offer(
        id=f"slurm:{fleet.name}:{machine}",
        provider="slurm",
        machine=machine,
        capacity=Capacity(
            cpu=float(cpus),
            memory_b=memory_mb * _MIB,
            disk_b=int(settings.get("disk_b") or 0),
            gpus=tuple(Gpu(name, _gpu_memory_b(name, settings)) for name, count in gpus for _ in range(count)),
        ),
        fleet=fleet.id,
        region=str(settings.get("region") or ""),
        network=f"slurm:{fleet.name}",
        labels={**settings.get("labels", {}), "partition": partition},
        price=_price(partition, settings) / part,
        spot=partition in settings.get("spot", ()),
        start_s=_NOW_S if free else _QUEUE_S,
        count=free or None,
    )


def _parts(node: SlurmNode) -> Iterator[int]:
    """1, 2, 4... as long as every kind of thing can be halved: a share with a GPU keeps one, and a processor."""
    part = 1
    while node.cpus >= part and all(count % part == 0 for _, count in node.gpus):
        yield part
        part *= 2


def _free(node: SlurmNode, cpus: int, memory_mb: int, gpus: Mapping[str, int]) -> int:
    rooms = [node.free_cpus // cpus]
    if memory_mb:
        rooms.append(node.free_memory_mb // memory_mb)
    free = dict(node.free_gpus)
    rooms += [free.get(name, 0) // count for name, count in gpus.items()]
    return max(0, min(rooms))


def _node(words: Mapping[str, str]) -> SlurmNode:
    cpus = _number(words.get("CPUEfctv") or words.get("CPUTot"))
    memory = _number(words.get("RealMemory"))
    counted = memory if memory > 1 else 0  # 1 is what Slurm says when nobody configured it
    gpus, used = _gpus(words.get("Gres", "")), _gpus(words.get("GresUsed", ""))
    return SlurmNode(
        name=words["NodeName"],
        cpus=cpus,
        memory_mb=counted,
        gpus=tuple(sorted(gpus.items())),
        free_cpus=cpus - _number(words.get("CPUAlloc")),
        free_memory_mb=max(0, counted - _number(words.get("AllocMem"))),
        free_gpus=tuple(sorted((name, count - used[name]) for name, count in gpus.items())),
        host=words.get("NodeHostName", ""),
        address=words.get("NodeAddr", ""),
    )


def _gpus(text: str) -> Counter[str]:
    """`gpu:h100:4(S:0-1),gpu:2` as counts by type; those without a type are called gpu."""
    found: Counter[str] = Counter()
    for name, count in _GRES.findall(text):
        found[name or "gpu"] += int(count)
    return found


def _is_usable(state: str) -> bool:
    """Of `MIXED+CLOUD`, `IDLE*`, `DOWN+DRAIN`."""
    words = set(re.split(r"[+\W]", state))
    return bool(state) and "*" not in state and not words & _UNUSABLE


def _gpu_memory_b(name: str, settings: Mapping[str, Any]) -> int:
    told = settings.get("gpu_memory", {})
    if name in told:
        return int(told[name])
    return next((size * _GIB for size, names in _MEMORY_GIB.items() if name.lower() in names), 0)


def _price(partition: str, settings: Mapping[str, Any]) -> float:
    price = settings.get("price", 0.0)
    return float(price.get(partition, 0.0) if isinstance(price, Mapping) else price)


def _number(text: str | None) -> int:
    return int(text) if text and text.isdigit() else 0
