"""A task in a container: its image looked at, its command line around it, and what a killed agent left ended.

Inside, a small shell is the first process: it sets the task's variables, which are in a file (never in arguments, never
in the image), and passes TERM on to every process of the container; a program that is the first process itself would
not heed it. An image without a shell runs its program directly.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Mapping
from pathlib import Path

import msgspec

from nexus.agent.adapters.home import Home, TaskHome
from nexus.agent.adapters.isolation.enclosure import (
    FIRST,
    SHELL,
    WITH_VARIABLES,
    Enclosure,
    sdk_folder,
    wrapped,
    write_private,
    written_variables,
)
from nexus.agent.adapters.isolation.engine import Engine, client_variables, rlimits
from nexus.agent.adapters.launcher import Program
from nexus.kernel.errors import JobError, UsageError

_FIRST = FIRST.format(also="kill -TERM -1")  # from the first process: to all others
_ASK = "command -v bash || echo sh"
_LAYERS_KEPT = 20


class Image(msgspec.Struct, frozen=True, kw_only=True):
    """What a task's container is made of. `shell`: bash, sh, or empty if it has none."""

    ref: str
    shell: str


class Containers:
    """The containers of one agent."""

    def __init__(self, home: Home, engine: Engine, environ: Mapping[str, str]) -> None:
        self._home = home
        self.engine = engine
        self.env = client_variables(environ)
        self._owner = hashlib.sha256(str(home.path).encode()).hexdigest()[:16]
        self._images: dict[str, Image] = {}

    async def find(self, name: str) -> str:
        """The id of an image that is here; empty if it is not."""
        for candidate in dict.fromkeys((name, full_name(name))):
            code, words = await self._ask("image", "inspect", "--format", "{{.Id}}", candidate)
            if code == 0:
                return words.strip().removeprefix("sha256:")
        return ""

    def pull(self, name: str, home: TaskHome, timeout_s: float) -> Program:
        """The program that brings an image."""
        argv = (*self.engine.argv, "pull", full_name(name))
        return Program(argv=argv, env=self.env, cwd=home.path, timeout_s=timeout_s, letters=("n", "n"))

    async def look_inside(self, name: str, ref: str) -> Image:
        """What an image has. Raises JobError for one that does not run here, such as another processor's."""
        if ref not in self._images:
            run = ["run", "--rm", "--pull", "never", "--network", "none", "--entrypoint", "/bin/sh"]
            code, words = await self._ask(*run, *rlimits(), ref, "-c", _ASK)
            if code not in {0, 126, 127} or "exec format error" in words.lower():
                raise JobError(
                    f"the image {name} does not run on this node: {_last_line(words)}",
                    hint="Is it made for this node's kind of processor?",
                )
            self._images[ref] = Image(ref=ref, shell=words.split()[0].rpartition("/")[2] if code == 0 else "")
        return self._images[ref]

    async def has_layer(self, layer: str) -> bool:
        """Whether an image that a setup made is here."""
        return (await self._ask("image", "inspect", "--format", "x", layer))[0] == 0

    async def keep_layer(self, container: str, layer: str) -> None:
        """Make an image of what a setup changed, and drop the oldest of too many. Raises JobError."""
        label = f"LABEL nexus.home={self._owner}"
        code, words = await self._ask("commit", "--change", label, container, layer)
        await self.end(container)
        if code:
            raise JobError(f"what the setup made could not be kept: {_last_line(words)}", hint="Is the disk full?")
        ours = f"label=nexus.home={self._owner}"
        _, words = await self._ask("images", "--quiet", "--no-trunc", "--filter", ours)
        for old in list(dict.fromkeys(words.split()))[_LAYERS_KEPT:]:  # newest first; one in use stays
            await self._ask("rmi", old)

    def around(
        self, image: Image, home: TaskHome, place: Path, program: Program, enclosure: Enclosure, *, keep: bool = False
    ) -> Program:
        """The program inside a container. Raises UsageError for variables that an image without a shell cannot get."""
        self._used.touch()
        name = self.name(place)
        mounted = Enclosure(
            writable=enclosure.writable,
            readable=(*enclosure.readable, place, sdk_folder()),
            private=enclosure.private,
            gpus=enclosure.gpus,
            cpu=enclosure.cpu,
            memory_b=enclosure.memory_b,
        )
        labels = {"nexus.home": self._owner, "nexus.task": home.path.name}
        run = self.engine.run(name, image.ref, mounted, program.cwd, labels, keep=keep)
        enter: tuple[str, ...] = (name,)
        if image.shell:
            variables = str(written_variables(place, program.env))
            argv = [*run, SHELL, "-c", _FIRST, variables, *program.argv]
            enter = (name, SHELL, "-c", WITH_VARIABLES, variables)
        else:
            variables = str(write_private(place / "variables", as_lines(program.env)))
            argv = [*run[:-1], "--env-file", variables, run[-1], *program.argv]
        execute = (*self.engine.argv, "exec", "--interactive", "--workdir", str(program.cwd))
        return wrapped(
            program,
            tuple(argv),
            env=self.env,
            closing=(*self.engine.argv, *self.engine.end(name)),
            enter=(*execute, *enter),
            enter_tty=(*execute, "--tty", "--env", "TERM", *enter),
        )

    @property
    def _used(self) -> Path:
        """There once this agent has had a container: others need not ask the engine for any when they start."""
        return self._home.path / "containers"

    def name(self, place: Path) -> str:
        """The container of what runs at a place: the same after a restart of the agent."""
        return f"nexus-{self._owner[:8]}-{place.parent.name}-{place.name}"

    async def end(self, container: str) -> None:
        """Nothing of it stays."""
        await self._ask(*self.engine.end(container))

    async def sweep(self, living: frozenset[str]) -> None:
        """End every container of this home but the `living`: its agent and its shim are dead."""
        if not self._used.exists():
            return
        ours = f"label=nexus.home={self._owner}"
        _, words = await self._ask("ps", "--all", "--filter", ours, "--format", "{{.Names}}")
        for container in words.split():
            if container not in living and container.startswith(f"nexus-{self._owner[:8]}-"):
                await self.end(container)

    async def _ask(self, *words: str) -> tuple[int, str]:
        """One of the engine's commands: its exit code, and all it said."""
        process = await asyncio.create_subprocess_exec(
            *self.engine.argv,
            *words,
            env=self.env,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        try:
            output, _ = await process.communicate()
        except asyncio.CancelledError:
            process.kill()
            await process.wait()
            raise
        return process.returncode or 0, output.decode("utf-8", "replace")


def layer_name(image: str, setup: str, files: Mapping[str, bytes]) -> str:
    """What a setup makes of an image, named by all that goes in."""
    digest = hashlib.sha256()
    for part in (image.encode(), setup.encode(), *(part for item in sorted(files.items()) for part in _pair(*item))):
        digest.update(len(part).to_bytes(8, "big"))
        digest.update(part)
    return f"localhost/nexus-setup:{digest.hexdigest()[:32]}"


def full_name(image: str) -> str:
    """An image's name with its registry, which is Docker Hub's if none is said."""
    first, slash, _ = image.partition("/")
    if slash and ("." in first or ":" in first or first == "localhost"):
        return image
    return f"docker.io/{image}" if slash else f"docker.io/library/{image}"


def as_lines(env: Mapping[str, str]) -> str:
    """Variables as engines read them from a file: one a line, as they are. Raises UsageError."""
    for name, value in env.items():
        if "\n" in value or value[:1] in {"'", '"'}:
            raise UsageError(
                f"{name} has a value that an image without a shell cannot be given",
                hint="Take an image with /bin/sh, or give it a value of one line that starts with no quote.",
            )
    return "".join(f"{name}={value}\n" for name, value in env.items())


def _pair(name: str, content: bytes) -> tuple[bytes, bytes]:
    return name.encode(), content


def _last_line(words: str) -> str:
    lines = [line.strip() for line in words.splitlines() if line.strip()]
    return lines[-1][:300] if lines else "no reason given"
