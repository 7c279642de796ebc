"""What a person writes: a model, data, a loss and metrics, in plain PyTorch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from nexus.federate.model import Settings
from nexus.kernel.errors import UsageError

if TYPE_CHECKING:
    import torch

Pair = tuple[Any, Any]  # inputs and labels: tensors or numpy arrays


@dataclass(frozen=True)
class FederatedData:
    """Samples `x`, `y` (tensors or arrays) dealt out in `parts`: one array of row numbers per client."""

    x: Any
    y: Any
    parts: Sequence[Any]

    def __len__(self) -> int:
        return len(self.parts)

    def __call__(self, client: int) -> Pair:
        """The samples of one client."""
        rows = self.parts[client]
        return self.x[rows], self.y[rows]


@dataclass(frozen=True, kw_only=True)
class Task:
    """A federated task. The same one is simulated and run over the network.

    `model()` makes the module. `data(client)` gives a client's (x, y); with a function, say how many `clients` there
    are. `loss(outputs, y)` is a scalar to go down. `metrics` are means over samples, `name: f(outputs, y)`, of the
    global model on `test`, a held-out (x, y). `root` are samples of the server's own, for defences and contributions
    that look at models: neither a client's nor in `test`. `settings` are defaults that `--set` overrides.
    Raises UsageError.
    """

    model: Callable[[], torch.nn.Module]
    data: FederatedData | Callable[[int], Pair]
    loss: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
    metrics: Mapping[str, Callable[[torch.Tensor, torch.Tensor], float | torch.Tensor]] = field(default_factory=dict)
    test: Pair | None = None
    root: Pair | None = None
    clients: int = 0
    settings: Settings = Settings()

    def __post_init__(self) -> None:
        """Raises UsageError."""
        if isinstance(self.data, FederatedData):
            if self.clients not in {0, len(self.data)}:
                raise UsageError(
                    f"clients={self.clients}, but data has {len(self.data)} parts", hint="Leave `clients` out."
                )
            object.__setattr__(self, "clients", len(self.data))
        if self.clients < 1:
            raise UsageError("the task does not say how many clients there are", hint="Task(..., clients=20)")


def accuracy(outputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """The part of samples whose highest output is their label."""
    return (outputs.argmax(dim=1) == labels).float().mean()
