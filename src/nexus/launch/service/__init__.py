"""Launch's use cases: `Launch` is the one door."""

from nexus.launch.service.channel import check_protocol as check_protocol
from nexus.launch.service.launch import Launch as Launch
