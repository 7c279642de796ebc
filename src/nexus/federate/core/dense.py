"""SGD on linear layers with ReLU and cross entropy, written out: where a step is so short that autograd is most of it.

Several clients are trained at once: their weights lie beside each other, and one call multiplies them all. The numbers
of each are the same, to the bit, in any company: one matrix product is computed for each, whoever the others are. They
are what torch computes up to rounding (1e-5 after an epoch); whether this is used depends on the model and the loss
alone, never on the machine, so that simulation and silos agree.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional

from nexus.federate.core.total import Array

_MOST = 1_000_000  # parameters; above, products are most of a step, and torch's are as good
_CACHE = 256 * 1024  # parameters of all clients that are trained at once: 1 MB, what a core's cache holds


@dataclass(frozen=True, slots=True)
class Client:
    """Samples (rows of float32, labels), and their order in each epoch."""

    x: Array
    y: NDArray[np.int64]
    orders: Sequence[NDArray[np.int64]]


@dataclass(frozen=True, slots=True)
class Learnt:
    """The weights of each client (clients x parameters), its mean loss over all batches, and its steps."""

    weights: Array
    losses: NDArray[np.float64]
    steps: list[int]


@dataclass(frozen=True, slots=True)
class _Layer:
    """Where a linear layer's weight and bias lie in the flat vector."""

    weight: slice
    bias: slice | None
    shape: tuple[int, int]  # outputs, inputs

    def weights(self, flat: Array) -> Array:
        return flat[:, self.weight].reshape(len(flat), *self.shape)


class Dense:
    """A chain of linear layers with ReLU between them."""

    def __init__(self, layers: Sequence[_Layer], flattens: bool) -> None:
        self._layers = layers
        self._flattens = flattens
        last = layers[-1]
        size = (last.bias or last.weight).stop
        self.together = max(1, min(32, _CACHE // size))  # clients

    @classmethod
    def of(cls, module: nn.Module, loss: Callable[..., Any]) -> Dense | None:
        """What `module` is, if it is one of these with its plain loss; nothing may be frozen or hooked."""
        if type(module) is not nn.Sequential or not _is_cross_entropy(loss):
            return None
        parts = list(module)
        flattens = bool(parts) and type(parts[0]) is nn.Flatten and (parts[0].start_dim, parts[0].end_dim) == (1, -1)
        chain = parts[1:] if flattens else parts
        linear, between = chain[::2], chain[1::2]
        fits = (
            len(linear) == len(between) + 1
            and all(type(part) is nn.Linear for part in linear)
            and all(type(part) is nn.ReLU for part in between)
            and all(one.out_features == other.in_features for one, other in pairwise(linear))
            and all(p.requires_grad and p.dtype is torch.float32 for p in module.parameters())
            and len(set(module.parameters())) == sum(1 + (part.bias is not None) for part in linear)
            and sum(p.numel() for p in module.parameters()) <= _MOST
            and not any(_is_hooked(part) for part in (module, *parts))
        )
        return cls(_places(linear), flattens) if fits else None

    def samples(self, x: torch.Tensor, y: torch.Tensor) -> tuple[Array, NDArray[np.int64]] | None:
        """A client's samples as rows and labels; None if they are of another kind."""
        rows = x.flatten(1) if self._flattens and x.dim() > 1 else x
        outputs, inputs = self._layers[-1].shape[0], self._layers[0].shape[1]
        fits = (
            (rows.dtype, y.dtype) == (torch.float32, torch.int64)
            and rows.dim() == 2
            and rows.shape[1] == inputs
            and y.dim() == 1
            and not x.requires_grad
        )
        if not fits:
            return None
        labels = y.numpy()
        return (rows.numpy(), labels) if bool(((labels >= 0) & (labels < outputs)).all()) else None

    def fit(self, start: Array, clients: Sequence[Client], batch: int, rate: float) -> Learnt:
        """Train each client from `start`."""
        ranked = sorted(range(len(clients)), key=lambda at: -len(clients[at].y))
        mine = [clients[at] for at in ranked]
        sizes = [len(client.y) for client in mine]
        weights = np.repeat(start[None], len(mine), axis=0)
        losses = np.zeros(len(mine))
        x = np.empty((len(mine), sizes[0], self._layers[0].shape[1]), np.float32)
        marks = np.zeros((len(mine), sizes[0], self._layers[-1].shape[0]), np.float32)
        with np.errstate(all="ignore"):  # a model that diverges is told of where rounds are closed
            for epoch in range(len(mine[0].orders)):
                marks.fill(0.0)
                for at, client in enumerate(mine):
                    order = client.orders[epoch]
                    np.take(client.x, order, axis=0, out=x[at, : sizes[at]], mode="clip")
                    marks[at, np.arange(sizes[at]), client.y[order]] = 1.0
                self._epoch(weights, x, marks, sizes, losses, batch, rate)
        steps = [len(client.orders) * -(-size // batch) for client, size in zip(mine, sizes, strict=True)]
        back = np.argsort(ranked)
        return Learnt(weights[back], (losses / steps)[back], [steps[at] for at in back])

    def _epoch(
        self,
        weights: Array,
        x: Array,
        marks: Array,
        sizes: list[int],
        losses: NDArray[np.float64],
        batch: int,
        rate: float,
    ) -> None:
        """Those with a whole batch left, who stand first, step together; each remainder is a step of its own."""
        for first in range(0, sizes[0], batch):
            last = first + batch
            whole = sum(size >= last for size in sizes)
            if whole:
                losses[:whole] += self._step(weights[:whole], x[:whole, first:last], marks[:whole, first:last], rate)
            for at in range(whole, len(sizes)):
                one, rest = slice(at, at + 1), slice(first, sizes[at])
                if sizes[at] > first:
                    losses[one] += self._step(weights[one], x[one, rest], marks[one, rest], rate)

    def _step(self, flat: Array, x: Array, marks: Array, rate: float) -> Array:
        """One SGD step of each client, in place; the mean loss of each before it."""
        seen = [x]
        for layer in self._layers:
            out = np.matmul(seen[-1], layer.weights(flat).transpose(0, 2, 1))
            if layer.bias is not None:
                out += flat[:, None, layer.bias]
            if layer is not self._layers[-1]:
                np.maximum(out, 0.0, out=out)
            seen.append(out)
        scores = seen.pop()
        scores -= scores.max(axis=2, keepdims=True)
        chances = np.exp(scores)
        sums = chances.sum(axis=2, keepdims=True)
        loss: Array = (np.log(sums[..., 0]) - (scores * marks).sum(axis=2)).mean(axis=1)
        chances /= sums
        chances -= marks
        chances *= rate / x.shape[1]  # the rate goes along, so that what comes back is the step itself
        self._back(flat, seen, chances)
        return loss

    def _back(self, flat: Array, seen: list[Array], error: Array) -> None:
        for at in range(len(self._layers) - 1, -1, -1):
            layer, inputs = self._layers[at], seen[at]
            weights = layer.weights(flat)
            change = np.matmul(error.transpose(0, 2, 1), inputs)
            bias = error.sum(axis=1)
            if at:
                error = np.matmul(error, weights)
                error *= inputs > 0
            weights -= change
            if layer.bias is not None:
                flat[:, layer.bias] -= bias


def _places(linear: Sequence[Any]) -> list[_Layer]:
    layers, at = [], 0
    for part in linear:
        outputs, inputs = part.weight.shape
        weight = slice(at, at + outputs * inputs)
        bias = slice(weight.stop, weight.stop + outputs) if part.bias is not None else None
        layers.append(_Layer(weight, bias, (outputs, inputs)))
        at = (bias or weight).stop
    return layers


def _is_cross_entropy(loss: Callable[..., Any]) -> bool:
    if type(loss) is nn.CrossEntropyLoss:
        plain = loss.weight is None and loss.reduction == "mean" and not loss.label_smoothing
        return plain and loss.ignore_index == -100
    return loss is functional.cross_entropy


def _is_hooked(module: Any) -> bool:
    names = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    return any(getattr(module, name) for name in names) or "forward" in vars(module)
