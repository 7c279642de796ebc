"""Launch's use cases: `Launch` is the one door."""

from nexus.launch.service.launch import Launch

__all__ = ["Launch"]
