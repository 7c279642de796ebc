"""Nobody counts for more than a number of samples, whatever it says it has: a layer around the algorithm itself."""

from __future__ import annotations

from dataclasses import dataclass

from nexus.federate.core.layer import Layer


@dataclass(frozen=True)
class Capped(Layer):
    """At `most` samples of a client count; with 1, all clients count alike."""

    most: int = 1

    def weight(self, samples: int) -> float:
        return self.inner.weight(min(samples, self.most))
