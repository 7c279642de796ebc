"""Several processes, one model: join the gang that Nexus (or torchrun) started, in one line.

    with ddp.init() as group:
        model = group.wrap(Model())
        ...
        if group.is_first:
            nexus.log({"loss": loss})

Reads RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR and MASTER_PORT; without them the process is a gang of one, so the same
script runs alone. NCCL on accelerators, gloo on processors.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from types import TracebackType
from typing import Any, Self

import torch
from torch import distributed, nn

from nexus.kernel.errors import UsageError
from nexus.train.checkpoint import Checkpoint

_TORCHRUN = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


@dataclass(frozen=True)
class Group:
    """This process among its peers."""

    rank: int
    world: int
    device: torch.device

    @property
    def is_first(self) -> bool:
        """Whether this one speaks for all: logs, writes checkpoints, keeps the model."""
        return self.rank == 0

    def wrap(self, model: nn.Module) -> nn.Module:
        """The model on this process's device; with peers, its gradients are averaged and its start is rank 0's."""
        model = model.to(self.device)
        if self.world == 1:
            return model
        devices = [self.device.index] if self.device.type == "cuda" else None
        return nn.parallel.DistributedDataParallel(model, device_ids=devices)

    def mean(self, value: torch.Tensor) -> torch.Tensor:
        """The average of a number over all processes."""
        total = value.detach().clone()
        if self.world > 1:
            distributed.all_reduce(total)
        return total / self.world

    def everyone(self, value: torch.Tensor) -> list[torch.Tensor]:
        """The tensors of all processes in rank order; same shape and type in each."""
        if self.world == 1:
            return [value]
        mine = value.to(self.device)
        parts = [torch.empty_like(mine) for _ in range(self.world)]
        distributed.all_gather(parts, mine)
        return [part.to(value.device) for part in parts]

    def share(self, found: Checkpoint | None, *groups: str) -> tuple[int, dict[str, dict[str, torch.Tensor]]] | None:
        """What rank 0 found, on every process: the step and the tensors of each group; None if it found nothing.

        Only rank 0's folder counts: other nodes may not have it. Tensors travel as safetensors bytes.
        """
        from safetensors.torch import load, save

        if self.is_first and found is not None:
            named = {f"{group}/{key}": value for group in groups for key, value in found.tensors(group).items()}
            body = save(named)
            head = torch.tensor([1, found.step, len(body)], dtype=torch.int64)
        else:
            body, head = b"", torch.zeros(3, dtype=torch.int64)
        head = self._broadcast(head)
        if not head[0]:
            return None
        body = self._bytes(body, int(head[2]))
        return int(head[1]), _grouped(load(body))

    def _bytes(self, body: bytes, size: int) -> bytes:
        if self.world == 1:
            return body
        tensor = torch.frombuffer(bytearray(body), dtype=torch.uint8) if body else torch.empty(size, dtype=torch.uint8)
        return self._broadcast(tensor).numpy().tobytes()

    def _broadcast(self, tensor: torch.Tensor) -> torch.Tensor:
        if self.world == 1:
            return tensor
        moved = tensor.to(self.device)
        distributed.broadcast(moved, src=0)
        return moved.cpu()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leave the gang in order; after an error leave at once, for peers may wait for what never comes."""
        if self.world > 1 and distributed.is_initialized():
            if error is None:
                distributed.barrier()
            distributed.destroy_process_group()


def init(*, timeout_s: float = 300.0, environ: Mapping[str, str] = os.environ) -> Group:
    """Join the gang. `timeout_s` bounds every wait for a peer. Raises UsageError if the environment is half set."""
    present = [name for name in _TORCHRUN if environ.get(name)]
    if not present:
        return Group(0, 1, _device(0))
    if len(present) < len(_TORCHRUN):
        missing = ", ".join(name for name in _TORCHRUN if name not in present)
        raise UsageError(
            f"{present[0]} is set, but not {missing}", hint="Start it as a job of `kind: train`, or with torchrun."
        )
    rank, world = int(environ["RANK"]), int(environ["WORLD_SIZE"])
    device = _device(int(environ.get("LOCAL_RANK") or "0"))
    if world == 1:
        return Group(rank, world, device)
    if environ["MASTER_ADDR"] in {"127.0.0.1", "localhost"}:
        # Gloo binds what the host name resolves to, which on many machines is not the loopback of the others.
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    distributed.init_process_group(
        "nccl" if device.type == "cuda" else "gloo",
        init_method=f"tcp://{environ['MASTER_ADDR']}:{environ['MASTER_PORT']}",
        rank=rank,
        world_size=world,
        timeout=timedelta(seconds=timeout_s),
    )
    return Group(rank, world, device)


def _device(local_rank: int) -> torch.device:
    if not torch.cuda.is_available():
        return torch.device("cpu")
    device = torch.device("cuda", local_rank)
    torch.cuda.set_device(device)
    return device


def _grouped(flat: Mapping[str, Any]) -> dict[str, dict[str, torch.Tensor]]:
    groups: dict[str, dict[str, torch.Tensor]] = {}
    for name, tensor in flat.items():
        group, _, key = name.partition("/")
        groups.setdefault(group, {})[key] = tensor
    return groups
