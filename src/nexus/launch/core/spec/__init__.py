"""`JobSpec`, the checked form of a job file, and its parts."""

from nexus.launch.core.spec.fields import Section
from nexus.launch.core.spec.job import JobSpec
from nexus.launch.core.spec.parts import GpuSpec, HealthSpec, PortSpec, Resources, RetrySpec, RoleSpec

__all__ = ["GpuSpec", "HealthSpec", "JobSpec", "PortSpec", "Resources", "RetrySpec", "RoleSpec", "Section"]
