"""Where machines come from. One file here and one line in the table add a provider."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from nexus.kernel.registry import Registry
from nexus.launch.ports import Provider, Surroundings

# name -> what makes it, given the server's surroundings; imported when a fleet of it is first used.
PROVIDERS: Registry[Callable[[Surroundings], Provider]] = Registry(
    "nexus.providers",
    {
        "local": "nexus.launch.adapters.providers.local:Local",
        "ssh": "nexus.launch.adapters.providers.ssh:Ssh",
        "slurm": "nexus.launch.adapters.providers.slurm:Slurm",
    },
)


class OpenProviders:
    """Implements `launch.ports.Providers`: each provider is made once, with a folder of its own."""

    def __init__(self, surroundings: Surroundings) -> None:
        self._surroundings = surroundings
        self._open: dict[str, Provider] = {}

    def get(self, name: str) -> Provider:
        if name not in self._open:
            folder = str(Path(self._surroundings.folder) / name)
            self._open[name] = PROVIDERS.get(name)(replace(self._surroundings, folder=folder))
        return self._open[name]

    async def close(self) -> None:
        """Let go of every provider's connections."""
        await asyncio.gather(*(provider.close() for provider in self._open.values()))
