"""Who may do what: tokens, people and projects, secrets, and the trail of it all."""

from nexus.access.service.audit import Audit
from nexus.access.service.people import People
from nexus.access.service.secrets import Secrets
from nexus.access.service.sweeping import Sweep
from nexus.access.service.tokens import Access

__all__ = ["Access", "Audit", "People", "Secrets", "Sweep"]
