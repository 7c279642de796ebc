"""How fast simulated clients are, when they are there, and which of them fail: one line here and one file for each."""

from __future__ import annotations

from nexus.federate.core.device import Devices
from nexus.kernel.registry import Registry

DEVICES: Registry[type[Devices]] = Registry(
    "nexus.devices",
    {
        "random": "nexus.federate.core.devices.random:RandomDevices",
    },
)
