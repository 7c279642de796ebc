"""How far apart this node can keep a task, and how far it must: what its owner wants, what the job asks for."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Mapping
from pathlib import Path

from nexus.agent.adapters.home import Home, TaskHome
from nexus.agent.adapters.isolation.containers import Containers
from nexus.agent.adapters.isolation.enclosure import Enclosure
from nexus.agent.adapters.isolation.engine import Engine, find_engine, known_engine
from nexus.agent.adapters.isolation.sandbox import find_sandbox, sandboxed
from nexus.agent.adapters.launcher import Program
from nexus.kernel.errors import MissingError
from nexus.launch.protocol import TaskOrder

PROCESS, SANDBOX, CONTAINER = "process", "sandbox", "container"


def known_levels(boot: str, environ: Mapping[str, str] | None = None) -> tuple[str, ...]:
    """What jobs may ask for on this machine, as far as it is known without a search."""
    environ = os.environ if environ is None else environ
    sandbox = (SANDBOX,) if find_sandbox(environ.get("PATH")) else ()
    return (PROCESS, *sandbox, *((CONTAINER,) if known_engine(_cache(environ), boot)[1] else ()))


def working_engine(boot: str, environ: Mapping[str, str] | None = None) -> Engine | None:
    """The container engine that works here; looks for it (half a second) if nobody has since the machine started."""
    environ = os.environ if environ is None else environ
    known, engine = known_engine(_cache(environ), boot)
    return engine if known else find_engine(_cache(environ), boot, environ)


def _cache(environ: Mapping[str, str]) -> Path:
    """One for all agents of this user: what works is the machine's."""
    base = environ.get("XDG_CACHE_HOME") or Path(environ.get("HOME", "/nonexistent"), ".cache")
    return Path(base, "nexus", "containers.json")


class Isolation:
    """What there is on this node. `required`: every task is in a sandbox or a container, whatever its job says.

    `shared` are folders of the machine that enclosed tasks may read, beside their own.
    """

    def __init__(
        self,
        home: Home,
        boot: str,
        *,
        required: bool = False,
        shared: tuple[Path, ...] = (),
        environ: Mapping[str, str] | None = None,
    ) -> None:
        self._home = home
        self._boot = boot
        self._required = required
        self._shared = shared
        self._environ = dict(os.environ if environ is None else environ)
        self._bwrap = find_sandbox(self._environ.get("PATH"))
        self._finding: asyncio.Future[Containers | None] | None = None
        self._cache = _cache(self._environ)
        known, engine = known_engine(self._cache, boot)
        self._containers = self._of(engine)
        self._is_known = known
        if required and not self._bwrap:
            raise MissingError(
                "this node must keep every task in a sandbox, and bubblewrap does not work on it",
                hint="Install bubblewrap (bwrap), and allow user namespaces; or join again without --require-sandbox.",
            )

    @property
    def levels(self) -> tuple[str, ...]:
        """What jobs may ask for, as far as it is known."""
        found = [() if self._required else (PROCESS,), (SANDBOX,) if self._bwrap else ()]
        return tuple(level for some in found for level in some) + ((CONTAINER,) if self._containers else ())

    def find_out(self, told: Callable[[], None]) -> None:
        """Look for a container engine, if that was not done since the machine started; then `told` is called."""
        if not self._is_known:
            self._finding = asyncio.ensure_future(self._find(told))

    def close(self) -> None:
        """Stop looking."""
        if self._finding is not None:
            self._finding.cancel()

    async def containers(self, image: str) -> Containers:
        """Raises MissingError if no container engine works here."""
        found = await asyncio.shield(self._finding) if self._finding is not None else self._containers
        if found is None:
            raise MissingError(
                f"this node cannot run the container image {image}",
                hint="Install podman on it, or leave `image` out and prepare the environment with `setup`.",
            )
        return found

    @property
    def has_containers(self) -> Containers | None:
        """Those that are known to work."""
        return self._containers

    def level(self, order: TaskOrder) -> str:
        """How the task must be kept. Raises MissingError for what this node has not."""
        if order.image is not None:
            return CONTAINER
        if not self._required and order.isolation != SANDBOX:
            return PROCESS
        if not self._bwrap:
            raise MissingError(
                "the job wants a sandbox, and bubblewrap does not work on this node",
                hint="Install bubblewrap (bwrap) on it, and allow user namespaces.",
            )
        return SANDBOX

    def in_sandbox(self, place: Path, program: Program, enclosure: Enclosure) -> Program:
        """The program of a place inside a sandbox."""
        enclosure.make()
        return sandboxed(self._bwrap, place, program, enclosure)

    def enclosure(
        self, order: TaskOrder, home: TaskHome, *readable: Path, writable: tuple[Path, ...] = ()
    ) -> Enclosure:
        """What a task may touch: its own folders, the SDK, what the owner shares, and what is given here.

        Not the agent's folder, nor the server's, which may be around it: tokens, keys and other people's runs.
        """
        above = self._home.path.parent
        return Enclosure(
            writable=(home.work, home.outputs, home.spool, self._home.run_checkpoints(order), *writable),
            readable=(self._home.sdk, *self._shared, *readable),
            private=home.path / "private",
            hidden=(self._home.path, *([above] if (above / "server.lock").exists() else [])),
            gpus=order.gpus,
            cpu=order.cpu,
            memory_b=order.memory_b,
        )

    def _of(self, engine: Engine | None) -> Containers | None:
        return Containers(self._home, engine, self._environ) if engine else None

    async def _find(self, told: Callable[[], None]) -> Containers | None:
        self._containers = self._of(await asyncio.to_thread(find_engine, self._cache, self._boot, self._environ))
        self._is_known = True
        told()
        return self._containers
