"""What nobody may learn of one client: one line here and one file for each mechanism."""

from __future__ import annotations

from nexus.federate.core.layer import Layer
from nexus.kernel.registry import Registry

PRIVACY: Registry[type[Layer]] = Registry(
    "nexus.privacy",
    {
        "central": "nexus.federate.core.privacy.central:Central",
        "adaptive": "nexus.federate.core.privacy.adaptive:Adaptive",
        "local": "nexus.federate.core.privacy.local:Local",
        "local_laplace": "nexus.federate.core.privacy.local:LocalLaplace",
    },
)
