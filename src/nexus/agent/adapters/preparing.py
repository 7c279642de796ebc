"""Prepare a task: its files, then the environment or image that it runs in. Set-ups run under a shim of their own."""

from __future__ import annotations

import asyncio
import os
import shutil
from dataclasses import replace
from pathlib import Path

import msgspec

from nexus.agent.adapters.environments import Environments, environment_hash, locked, read_setup_files
from nexus.agent.adapters.home import Home, TaskHome
from nexus.agent.adapters.isolation.containers import Containers, Image, layer_name
from nexus.agent.adapters.isolation.levels import CONTAINER, SANDBOX, Isolation
from nexus.agent.adapters.launcher import Launcher, Program
from nexus.agent.adapters.shim.formats import now_s
from nexus.agent.adapters.spool import DiskSpool
from nexus.agent.adapters.trees import Trees
from nexus.agent.adapters.variables import index_variables
from nexus.agent.adapters.workspace import prepare_files
from nexus.agent.core.outcome import in_words
from nexus.agent.core.secrecy import secret_values, sharers
from nexus.agent.model import Exit
from nexus.agent.ports import Fetch, Say
from nexus.kernel.errors import JobError
from nexus.launch.protocol import TaskOrder

SETUP_TIMEOUT_S = 1800.0
_TAIL_LINES = 3
_WAITING = "waiting for the environment, which another task prepares"
_PREPARING = "preparing the environment"


class Preparation:
    """Whatever a task needs before its process starts."""

    def __init__(
        self,
        home: Home,
        launcher: Launcher,
        environments: Environments,
        spool: DiskSpool,
        isolation: Isolation,
        setup_timeout_s: float,
    ) -> None:
        self._home = home
        self._launcher = launcher
        self._environments = environments
        self._spool = spool
        self._isolation = isolation
        self._setup_timeout_s = setup_timeout_s
        self._trees = Trees(home.path / "workspaces")

    async def prepare(self, order: TaskOrder, fetch: Fetch, say: Say) -> None:
        """Bring a task's files, and prepare where it runs. Raises NexusError."""
        level = self._isolation.level(order)
        home = self._home.task(order)
        home.make()
        await self._end_setup(home)
        await prepare_files(order, home, fetch, self._trees)
        if level == CONTAINER:
            await self._prepare_image(order, home, say)
        elif order.setup:
            await self._prepare_environment(order, home, say, is_sandboxed=level == SANDBOX)

    # ------------------------------------------------------------------ environments

    async def _prepare_environment(self, order: TaskOrder, home: TaskHome, say: Say, *, is_sandboxed: bool) -> None:
        name = environment_hash(order.setup, read_setup_files(home.work, order.setup_files), sharers(order))
        home.environment.write_text(name)
        if self._environments.is_ready(name):
            return
        async with self._environments.building(name, lambda: say(_WAITING)) as is_needed:
            if not is_needed:
                return
            say(_PREPARING)
            started = now_s()
            await self._environments.create(name)
            program = self._setup_program(order, home)
            path = self._environments.path(name)
            env = self._environments.variables(name) | program.env | self._environments.pinned(name)
            program = replace(program, env=env)
            if is_sandboxed:
                enclosure = self._isolation.enclosure(order, home, writable=(path,))
                program = self._isolation.in_sandbox(home.setup, program, enclosure)
            await self._run_aside(order, home, program, "the setup failed")
            await asyncio.to_thread(self._environments.finish, name)
            say(f"the environment is ready after {now_s() - started:.1f} s")
        for gone in await asyncio.to_thread(self._environments.evict, self._used_environments()):
            say(f"removed an environment to make room: {gone}")

    def _used_environments(self) -> frozenset[str]:
        return frozenset(file.read_text() for file in self._home.tasks.glob("*/environment"))

    # ------------------------------------------------------------------ images

    async def _prepare_image(self, order: TaskOrder, home: TaskHome, say: Say) -> None:
        """The image that the task's container is made of: as it was named, or with its setup done in it."""
        name = order.image or ""
        containers = await self._isolation.containers(name)
        ref = await containers.find(name)
        if not ref:
            say(f"pulling the image {name}")
            pull = containers.pull(name, home, self._setup_timeout_s)
            await self._run_aside(order, home, pull, f"the image {name} could not be pulled")
            ref = await containers.find(name)
        image = await containers.look_inside(name, ref)
        if order.gpus and not containers.engine.can_give_gpus():
            raise JobError(
                f"{containers.engine.name} on this node gives no GPU to containers",
                hint="Install NVIDIA's container toolkit on it (nvidia-ctk cdi generate), or leave `image` out.",
            )
        if (order.script or order.setup) and not image.shell:
            raise JobError(
                f"the image {name} has no shell to run a script with",
                hint="Write `run` as a list: a program and its arguments. Or take an image with /bin/sh.",
            )
        if order.setup:
            image = replace_ref(image, await self._prepare_layer(order, home, say, containers, image))
        (home.path / "image").write_bytes(msgspec.json.encode(image))

    async def _prepare_layer(
        self, order: TaskOrder, home: TaskHome, say: Say, containers: Containers, image: Image
    ) -> str:
        """The image with its setup done in it: made once for each image and setup."""
        layer = layer_name(image.ref + sharers(order), order.setup, read_setup_files(home.work, order.setup_files))
        if await containers.has_layer(layer):
            return layer
        lock = self._home.environments / f"image-{layer.rpartition(':')[2]}.lock"
        async with locked(lock, lambda: say(_WAITING)):
            if await containers.has_layer(layer):
                return layer
            say(_PREPARING)
            started = now_s()
            enclosure = replace(self._isolation.enclosure(order, home), gpus=(), memory_b=0, cpu=0.0)
            program = self._setup_program(order, home, shell_of(image))
            program = replace(program, env=self.container_variables() | program.env)
            program = containers.around(image, home, home.setup, program, enclosure, keep=True)
            container = containers.name(home.setup)
            try:
                await containers.end(container)  # of an agent that was killed
                await self._run_aside(order, home, program, "the setup failed")
                await containers.keep_layer(container, layer)
            except BaseException:
                await asyncio.shield(containers.end(container))
                raise
            say(f"the image is ready after {now_s() - started:.1f} s")
        return layer

    def container_variables(self) -> dict[str, str]:
        """What a container is told of its machine: the way to packages."""
        return index_variables(os.environ) | {"PYTHONUNBUFFERED": "1"}

    # ------------------------------------------------------------------ programs beside the task's own

    def _setup_program(self, order: TaskOrder, home: TaskHome, shell: tuple[str, ...] | None = None) -> Program:
        home.setup.mkdir(mode=0o700)
        return Program(
            argv=shell_argv(write_script(home.setup, order.setup), shell),
            env=order.env | order.secrets,
            cwd=home.work,
            timeout_s=self._setup_timeout_s,
            grace_s=order.grace_s,
            letters=("n", "n"),
            secrets=secret_values(order),
        )

    async def _run_aside(self, order: TaskOrder, home: TaskHome, program: Program, what: str) -> None:
        """Run a program to its end. Raises JobError, which begins with `what`."""
        home.setup.mkdir(mode=0o700, exist_ok=True)
        try:
            self._launcher.start(home.setup, home, program)
            end = await self._until_end(home)
        finally:
            await self._end_setup(home)
        if end.exit_code != 0 or end.signal:
            words = f"it took longer than {self._setup_timeout_s:g} s" if end.killed_for == "timeout" else in_words(end)
            words = "its lease ran out" if end.killed_for == "lease" else words
            raise JobError(f"{what}: {words}", hint=self._last_words(order))

    def _last_words(self, order: TaskOrder) -> str:
        """What it said last, on one line: reasons stand in tables; the whole of it stands in the log."""
        lines = [line.strip() for line in self._spool.tail(order, _TAIL_LINES).splitlines()]
        return " / ".join(line for line in lines if line and line != _PREPARING)

    async def _until_end(self, home: TaskHome) -> Exit:
        while True:
            seen = self._launcher.look(home.setup)
            if seen.exit is not None:
                return seen.exit
            await self._launcher.activity(home, 1.0)

    async def _end_setup(self, home: TaskHome) -> None:
        """No setup of this task runs any more, be it one of a killed agent."""
        while home.setup.exists() and self._launcher.look(home.setup).alive:
            self._launcher.stop(home.setup)
            await self._launcher.activity(home, 0.2)
        self._launcher.forget(home.setup)
        shutil.rmtree(home.setup, ignore_errors=True)


def read_image(home: TaskHome) -> Image:
    """What `prepare` left for the task's start."""
    return msgspec.json.decode((home.path / "image").read_bytes(), type=Image)


def replace_ref(image: Image, ref: str) -> Image:
    """The same inside, under another name."""
    return Image(ref=ref, shell=image.shell)


def shell_of(image: Image) -> tuple[str, ...]:
    """How a script is run in an image."""
    return ("bash", "-eo", "pipefail") if image.shell == "bash" else ("/bin/sh", "-e")


def shell_argv(script: Path, shell: tuple[str, ...] | None = None) -> tuple[str, ...]:
    """How a script is run: it stops at the first command that fails, as a Makefile does."""
    if shell is None:
        bash = shutil.which("bash")
        shell = (bash, "-eo", "pipefail") if bash else ("/bin/sh", "-e")
    return (*shell, str(script))


def write_script(place: Path, text: str) -> Path:
    """The script as a file of its place."""
    place.mkdir(mode=0o700, exist_ok=True)
    script = place / "script.sh"
    script.write_text(text if text.endswith("\n") else text + "\n")
    return script
