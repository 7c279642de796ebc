"""Torch's optimizers and random numbers as flat groups of tensors, which a checkpoint can keep without pickle."""

from __future__ import annotations

from collections.abc import Mapping

import torch


def optimizer_state(optimizer: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    """What the optimizer remembers of each parameter, as `12/exp_avg`. Its settings are the script's own."""
    return {
        f"{index}/{name}": value if isinstance(value, torch.Tensor) else torch.tensor(value)
        for index, memory in optimizer.state_dict()["state"].items()
        for name, value in memory.items()
        if value is not None
    }


def restore_optimizer(optimizer: torch.optim.Optimizer, tensors: Mapping[str, torch.Tensor]) -> None:
    """Give the optimizer back what `optimizer_state` took from one with the same parameters in the same order."""
    memory: dict[int, dict[str, torch.Tensor]] = {}
    for key, value in tensors.items():
        index, _, name = key.partition("/")
        memory.setdefault(int(index), {})[name] = value
    optimizer.load_state_dict({"state": memory, "param_groups": optimizer.state_dict()["param_groups"]})


def random_state() -> dict[str, torch.Tensor]:
    """Where torch's random numbers stand, on the processor and on every accelerator."""
    state = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        state |= {f"cuda{index}": value for index, value in enumerate(torch.cuda.get_rng_state_all())}
    return state


def restore_random_state(state: Mapping[str, torch.Tensor]) -> None:
    """Go on with the random numbers from where `random_state` was taken."""
    torch.set_rng_state(state["cpu"])
    cuda = [state[f"cuda{index}"] for index in range(len(state) - 1)]
    if cuda and len(cuda) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(cuda)
