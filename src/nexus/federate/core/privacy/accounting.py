"""What rounds of noise cost: epsilon at a delta, by Google's dp-accounting (Renyi differential privacy).

The unit of privacy is a whole client. Who is drawn uniformly into a cohort of fixed size has neighbours in which one
client is *replaced* by another: the sum moves by up to twice the clip norm, so the noise counts half. Who is drawn by
Poisson has neighbours in which one client is *left out*: the sum moves by the clip norm. Any other way to choose hides
nobody, and its rounds are composed as if every client took part in each. Clients that drop out change nothing: the
noise on the sum is the same, however few there are.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from typing import Any

from nexus.federate.core.draws import Sampling
from nexus.kernel.errors import MissingError


@dataclass(frozen=True, slots=True)
class Spending:
    """One round, as the accountant sees it. `noise` is the deviation (or Laplace's scale) over the clip norm."""

    noise: float
    delta: float
    sampling: Sampling
    cohort: int
    clients: int
    laplace: bool = False


@cache
def epsilon(spending: Spending, rounds: int) -> float:
    """What `rounds` such rounds have spent together. Raises MissingError without the extra."""
    if rounds == 0:
        return 0.0
    if spending.noise <= 0:
        return math.inf
    library = _library()
    removed = spending.sampling is Sampling.POISSON
    relation = library.NeighboringRelation.ADD_OR_REMOVE_ONE if removed else library.NeighboringRelation.REPLACE_ONE
    accountant = library.rdp.RdpAccountant(neighboring_relation=relation)
    accountant.compose(_event(library, spending, spending.noise if removed else spending.noise / 2), rounds)
    return float(accountant.get_epsilon(spending.delta))


def _event(library: Any, spending: Spending, multiplier: float) -> Any:
    if spending.laplace:
        return library.LaplaceDpEvent(multiplier)
    noise = library.GaussianDpEvent(multiplier)
    if spending.sampling is Sampling.POISSON:
        return library.PoissonSampledDpEvent(min(1.0, spending.cohort / spending.clients), noise)
    if spending.sampling is Sampling.FIXED and spending.cohort < spending.clients:
        return library.SampledWithoutReplacementDpEvent(spending.clients, spending.cohort, noise)
    return noise


def _library() -> Any:
    try:
        import dp_accounting
        import dp_accounting.rdp
    except ModuleNotFoundError as error:
        raise MissingError(f"privacy needs {error.name}", hint="pip install 'nexus[privacy]'") from error
    return dp_accounting
