"""Train a PyTorch module on one client after another, in one place.

The module is made once; its parameters, floating point buffers and gradients are views of flat tensors. Loading a
client's start is one copy, an SGD step is one vector operation, and what changed is one subtraction.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from nexus.federate.core.algorithm import Adjust, Fit, Gradient, Swap
from nexus.federate.core.dense import Dense
from nexus.federate.core.group import Group
from nexus.federate.core.pooling import quicken
from nexus.federate.core.seeds import derive
from nexus.federate.core.task import Pair, Task
from nexus.federate.core.total import Array
from nexus.federate.model import Local
from nexus.kernel.errors import JobError

_EVALUATE = 1024  # samples at once


class TorchTrainer:
    """Implements `Trainer` for the client that `enter` chose. Not for several threads."""

    def __init__(self, task: Task, seed: int, local: Local) -> None:
        torch.manual_seed(derive(seed, "model"))
        self._task = task
        self._seed = seed
        self._local = local
        self.module = task.model()
        self._parameters = [p for p in self.module.parameters() if p.requires_grad]
        self.trainable = sum(p.numel() for p in self._parameters)
        self._flat = _flatten(self.module, self._parameters)
        self._weights = self._flat[: self.trainable]
        self._gradient = torch.zeros(self.trainable)
        _bind_gradients(self._parameters, self._gradient)
        self._places = _cut(self._parameters, self._flat)
        dense = Dense.of(self.module, task.loss)
        self._group = Group(dense, task, seed, local) if dense else None
        quicken(self.module)
        self.initial: Array = self._flat.numpy().copy()
        self._delta = np.empty_like(self.initial)
        self._weights_view, self._gradient_view = self._weights.numpy(), self._gradient.numpy()
        self._x, self._y = torch.empty(0), torch.empty(0)
        self._dice = np.random.default_rng(0)
        self._is_fresh = False  # nothing was drawn in this turn, and the samples are the client's own
        self.client, self.number = 0, 0

    @property
    def samples(self) -> int:
        """How many the entered client has."""
        return len(self._x)

    @property
    def data(self) -> Pair:
        """The entered client's samples."""
        return self._x, self._y

    def dice(self, purpose: str) -> np.random.Generator:
        """Draws for one purpose of the entered client in this round, which nobody else gets."""
        return np.random.default_rng(derive(self._seed, purpose, self.number, self.client))

    def enter(self, client: int, number: int) -> None:
        """Get ready to train `client` in round `number`: its data, and seeds that nobody else has. Raises JobError."""
        x, y = self._group.data(client, number) if self._group else self._task.data(client)
        self.enter_with(client, number, x, y)
        self._is_fresh = True

    def expect(self, clients: Sequence[int], number: int) -> None:
        """These clients will be entered next, in this order: small models are trained several at a time."""
        if self._group is not None:
            self._group.expect(clients, number)

    def enter_with(self, client: int, number: int, x: Any, y: Any) -> None:
        """As `enter`, with samples of another's. Raises JobError."""
        self.client, self.number = client, number
        self._x, self._y = _tensor(x), _tensor(y)
        if len(self._x) != len(self._y) or not len(self._x):
            raise JobError(
                f"client {client} has {len(self._x)} inputs and {len(self._y)} labels",
                hint="data(client) must return (x, y) of one length, and no client may be empty.",
            )
        turn = derive(self._seed, "turn", number, client)
        self._dice = np.random.default_rng(turn)
        self._is_fresh = False
        if self._group is None:
            torch.default_generator.manual_seed(turn)  # dropout and the like; torch.manual_seed takes 2 ms

    def swap(self, change: Swap) -> None:
        """Train on `change(x, y)` in place of the entered client's samples; they themselves stay as they are."""
        self._x, self._y = change(self._x, self._y)
        self._is_fresh = False

    def fit(self, start: Array, adjust: Adjust | None = None, *, anchor: Array | None = None) -> Fit:
        """SGD from `start`; from each batch's gradient that at `anchor` is taken away."""
        if self._group is not None and adjust is None and anchor is None:
            found = self._fit_dense(self._group, start)
            if found is not None:
                return found
        self._is_fresh = False
        self._load(start)
        self.module.train()
        size, rate, steps = self._local.batch, self._local.lr, 0
        losses = torch.zeros(())
        for _ in range(self._local.epochs):
            order = torch.from_numpy(self._dice.permutation(self.samples))
            x, y = self._x[order], self._y[order]
            for first in range(0, self.samples, size):
                batch = slice(first, first + size)
                if anchor is None and adjust is None:
                    losses += self._step(x[batch], y[batch], rate)
                else:
                    losses += self._adjusted_step(x[batch], y[batch], rate, adjust, anchor)
                steps += 1
        np.subtract(self._flat.numpy(), start, out=self._delta)
        return Fit(self._delta, self._delta[: self.trainable], steps, float(losses) / steps, rate)

    def _fit_dense(self, group: Group, start: Array) -> Fit | None:
        """By the model's own formulas, with the clients that are expected next; None if the samples do not allow it."""
        fresh = (self.client, self.number) if self._is_fresh else None
        found = group.fit(start, self._x, self._y, self._dice, fresh)
        self._is_fresh = False
        if found is None:
            return None
        self._dice = found.dice
        np.subtract(found.weights, start, out=self._delta)
        return Fit(self._delta, self._delta, found.steps, found.loss, self._local.lr)

    def _step(self, x: torch.Tensor, y: torch.Tensor, rate: float) -> torch.Tensor:
        """One SGD step; its loss. Each gradient is taken as it comes, and never lies in a second place."""
        loss = self._task.loss(self.module(x), y)
        gradients = torch.autograd.grad(loss, self._parameters, allow_unused=True)
        for place, gradient in zip(self._places, gradients, strict=True):
            if gradient is not None:
                place.add_(gradient, alpha=-rate)
        return loss.detach()

    def _adjusted_step(
        self, x: torch.Tensor, y: torch.Tensor, rate: float, adjust: Adjust | None, anchor: Array | None
    ) -> torch.Tensor:
        """One step along a gradient that is changed before, as a whole."""
        self._gradient.zero_()
        loss = self._backward(x, y)
        if anchor is not None:
            self._take_away(anchor, x, y)
        if adjust is not None:
            adjust(self._weights_view, self._gradient_view)
        self._weights.add_(self._gradient, alpha=-rate)
        return loss.detach()

    def gradient(self, at: Array) -> Gradient:
        """The gradient of the mean loss over all samples, some at a time."""
        self._load(at)
        self.module.train()
        self._gradient.zero_()
        total = 0.0
        for x, y in zip(torch.split(self._x, _EVALUATE), torch.split(self._y, _EVALUATE), strict=True):
            total += float(self._backward(x, y, part=len(x) / self.samples).detach())
        np.subtract(self._flat.numpy(), at, out=self._delta)
        vector = self._delta[: self.trainable]
        np.copyto(vector, self._gradient_view)
        return Gradient(self._delta, vector, total)

    def evaluate(self, model: Array, on: Pair | None = None) -> dict[str, float]:
        """Loss and metrics of a model on the task's test set, or on other samples; empty when there are none."""
        pair = on or self._task.test
        if pair is None:
            return {}
        self._load(model)
        self.module.eval()
        x, y = (_tensor(part) for part in pair)
        sums: dict[str, float] = dict.fromkeys((*self._task.metrics, "loss"), 0.0)
        with torch.inference_mode():
            for xs, ys in zip(torch.split(x, _EVALUATE), torch.split(y, _EVALUATE), strict=True):
                outputs = self.module(xs)
                for name, metric in (*self._task.metrics.items(), ("loss", self._task.loss)):
                    sums[name] += float(metric(outputs, ys)) * len(xs)
        return {name: value / len(x) for name, value in sums.items()}

    def test(self) -> tuple[torch.Tensor, torch.Tensor]:
        """The task's test samples. Raises JobError when it has none."""
        if self._task.test is None:
            raise JobError("the task has no test samples", hint="Task(..., test=(x, y))")
        x, y = self._task.test
        return _tensor(x), _tensor(y)

    def share_right(self, model: Array, x: torch.Tensor, y: torch.Tensor) -> float:
        """The part of these samples whose highest output is their label."""
        self._load(model)
        self.module.eval()
        with torch.inference_mode():
            right = sum(
                int((self.module(xs).argmax(dim=1) == ys).sum())
                for xs, ys in zip(torch.split(x, _EVALUATE), torch.split(y, _EVALUATE), strict=True)
            )
        return right / max(len(x), 1)

    def tensors(self, model: Array) -> dict[str, torch.Tensor]:
        """The model as a state dict of copies, ready to be saved."""
        self._load(model)
        return {name: value.detach().clone().contiguous() for name, value in self.module.state_dict().items()}

    def _backward(self, x: torch.Tensor, y: torch.Tensor, part: float = 1.0) -> torch.Tensor:
        """Add `part` of a batch's gradient to what is there; that part of its loss."""
        loss = self._task.loss(self.module(x), y)
        if part != 1.0:
            loss = loss * part
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    def _take_away(self, anchor: Array, x: torch.Tensor, y: torch.Tensor) -> None:
        """Leave in the gradient what it has more than that of the same batch at `anchor`; buffers stay as they are."""
        here, gradient = self._flat.clone(), self._gradient.clone()
        self._load(anchor)
        self._gradient.zero_()
        self._backward(x, y)
        torch.sub(gradient, self._gradient, out=self._gradient)
        self._flat.copy_(here)

    def _load(self, model: Array) -> None:
        np.copyto(self._flat.numpy(), model)


def _flatten(module: torch.nn.Module, parameters: list[torch.nn.Parameter]) -> torch.Tensor:
    """One tensor that the module's parameters and then its floating point buffers are views of."""
    owners = _float_buffers(module)
    values = [p.detach() for p in parameters] + [getattr(owner, name) for owner, name in owners]
    flat = torch.cat([value.reshape(-1).float() for value in values]) if values else torch.empty(0)
    at = 0
    for parameter in parameters:
        parameter.data = flat[at : at + parameter.numel()].view_as(parameter)
        at += parameter.numel()
    for owner, name in owners:
        buffer = getattr(owner, name)
        setattr(owner, name, flat[at : at + buffer.numel()].view_as(buffer))
        at += buffer.numel()
    return flat


def _float_buffers(module: torch.nn.Module) -> list[tuple[torch.nn.Module, str]]:
    return [
        (owner, name)
        for owner in module.modules()
        for name, buffer in owner.named_buffers(recurse=False)
        if buffer.is_floating_point()
    ]


def _bind_gradients(parameters: list[torch.nn.Parameter], flat: torch.Tensor) -> None:
    for parameter, place in zip(parameters, _cut(parameters, flat), strict=True):
        parameter.grad = place


def _cut(parameters: list[torch.nn.Parameter], flat: torch.Tensor) -> list[torch.Tensor]:
    """Each parameter's part of a flat tensor, in its shape."""
    places, at = [], 0
    for parameter in parameters:
        places.append(flat[at : at + parameter.numel()].view(parameter.shape))
        at += parameter.numel()
    return places


def _tensor(value: Any) -> torch.Tensor:
    return value if isinstance(value, torch.Tensor) else torch.as_tensor(value)
