"""The families of parts that stand around an algorithm: one table each, one file and one line for each part."""

from __future__ import annotations

from typing import Any

from nexus.federate.core.attacks import ATTACKS
from nexus.federate.core.compression import COMPRESSIONS
from nexus.federate.core.contribution import CONTRIBUTIONS
from nexus.federate.core.defences import DEFENCES
from nexus.federate.core.devices import DEVICES
from nexus.federate.core.options import make
from nexus.federate.core.personal import PERSONAL
from nexus.federate.core.privacy import PRIVACY
from nexus.federate.core.samplers import SAMPLERS
from nexus.federate.core.schedules import SCHEDULES
from nexus.federate.core.secure import SECURE
from nexus.federate.model import Part, Settings
from nexus.kernel.registry import Registry

FAMILIES: dict[str, Registry[Any]] = {
    "schedule": SCHEDULES,
    "devices": DEVICES,
    "sampler": SAMPLERS,
    "personal": PERSONAL,
    "privacy": PRIVACY,
    "secure_aggregation": SECURE,
    "attack": ATTACKS,
    "compression": COMPRESSIONS,
    "defence": DEFENCES,
    "contribution": CONTRIBUTIONS,
}
SIMULATED = ("attack", "schedule", "devices")  # families that real nodes have no use for
LAYERS = ("personal", "privacy", "attack", "compression")  # around the algorithm, from the inside outwards


def build(family: str, part: Part, **given: Any) -> Any:
    """The part, with its options and what a composition gives. Raises NotFoundError, UsageError for a bad option."""
    return make(FAMILIES[family].get(part.name), part.name, part.options, **given)


def chosen(settings: Settings) -> dict[str, Part]:
    """The parts that these settings name, by family."""
    parts = {family: getattr(settings, family) for family in FAMILIES}
    return {family: part for family, part in parts.items() if part is not None}
