"""Tasks as processes of this machine, each under a shim."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
from collections.abc import Mapping
from pathlib import Path

from nexus.agent.adapters.environments import Environments, environment_hash, read_setup_files
from nexus.agent.adapters.home import Home, TaskHome
from nexus.agent.adapters.launcher import Launcher, Program
from nexus.agent.adapters.shim.formats import now_s
from nexus.agent.adapters.spool import DiskSpool
from nexus.agent.adapters.workspace import input_path, prepare_files
from nexus.agent.core.outcome import in_words
from nexus.agent.model import Exit, Sighting
from nexus.agent.ports import Fetch, Say
from nexus.kernel.errors import JobError, LimitError, MissingError
from nexus.launch.core.environment import environment, port_variable
from nexus.launch.protocol import TaskOrder

SETUP_TIMEOUT_S = 1800.0
_TAIL_LINES = 3
_PREPARING = "preparing the environment"


class ProcessRunner:
    """Implements `ports.Runner`. `address` and `api_url` are what tasks are told of this node and of the server."""

    def __init__(
        self,
        home: Home,
        launcher: Launcher,
        environments: Environments,
        spool: DiskSpool,
        *,
        address: str,
        api_url: str,
        setup_timeout_s: float = SETUP_TIMEOUT_S,
    ) -> None:
        self._home = home
        self._launcher = launcher
        self._environments = environments
        self._spool = spool
        self._address = address
        self._api_url = api_url
        self._setup_timeout_s = setup_timeout_s
        self._held: dict[str, list[int]] = {}  # ports given to tasks that may not listen yet

    async def prepare(self, order: TaskOrder, fetch: Fetch, say: Say) -> None:
        if order.image is not None:
            raise MissingError(
                f"this node cannot run the container image {order.image}",
                hint="Leave `image` out and prepare the environment with `setup`.",
            )
        home = self._home.task(order)
        home.make()
        await self._end_setup(home)
        await prepare_files(order, home, fetch)
        if order.setup:
            await self._prepare_environment(order, home, say)

    async def _prepare_environment(self, order: TaskOrder, home: TaskHome, say: Say) -> None:
        name = environment_hash(order.setup, read_setup_files(home.work, order.setup_files))
        home.environment.write_text(name)
        if self._environments.is_ready(name):
            return
        waiting = lambda: say("waiting for the environment, which another task prepares")  # noqa: E731
        async with self._environments.building(name, waiting) as is_needed:
            if not is_needed:
                return
            say(_PREPARING)
            started = now_s()
            await self._environments.create(name)
            await self._run_setup(order, home, name)
            await asyncio.to_thread(self._environments.finish, name)
            say(f"the environment is ready after {now_s() - started:.1f} s")
        for gone in await asyncio.to_thread(self._environments.evict, self._used_environments()):
            say(f"removed an environment to make room: {gone}")

    async def _run_setup(self, order: TaskOrder, home: TaskHome, name: str) -> None:
        home.setup.mkdir(mode=0o700)
        program = Program(
            argv=shell(_script(home.setup, order.setup)),
            env=self._environments.variables(name) | order.env | order.secrets | self._environments.pinned(name),
            cwd=home.work,
            timeout_s=self._setup_timeout_s,
            grace_s=order.grace_s,
            letters=("n", "n"),
        )
        try:
            self._launcher.start(home.setup, home, program)
            end = await self._until_end(home)
        finally:
            await self._end_setup(home)
        if end.exit_code != 0 or end.signal:
            words = f"it took longer than {self._setup_timeout_s:g} s" if end.killed_for == "timeout" else in_words(end)
            words = "its lease ran out" if end.killed_for == "lease" else words
            raise JobError(f"the setup failed: {words}", hint=self._last_words(order))

    def _last_words(self, order: TaskOrder) -> str:
        """What the setup said last, on one line: reasons stand in tables; the whole of it stands in the log."""
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

    async def choose_ports(self, order: TaskOrder) -> dict[str, int]:
        taken = {port for ports in self._held.values() for port in ports}
        chosen: dict[str, int] = {}
        for port in order.ports:
            chosen[port.name] = _reserve(port.port, port.name, taken)
            taken.add(chosen[port.name])
        self._held[order.task] = list(chosen.values())
        return chosen

    async def start(self, order: TaskOrder, ports: dict[str, int], lease_until: float) -> None:
        home = self._home.task(order)
        if self._launcher.look(home.job).was_started:
            return
        self.extend(order, lease_until)
        home.job.mkdir(mode=0o700, exist_ok=True)
        argv = order.argv or shell(_script(home.job, order.script))
        program = Program(
            argv=argv,
            env=self.variables(order, ports, home),
            cwd=home.work,
            timeout_s=order.timeout_s,
            grace_s=order.grace_s,
        )
        self._launcher.start(home.job, home, program)

    def variables(self, order: TaskOrder, ports: Mapping[str, int], home: TaskHome) -> dict[str, str]:
        """Everything in the task's environment; nothing else of the agent's gets there."""
        name = home.environment.read_text() if home.environment.exists() else None
        told = environment(
            order,
            ports=ports,
            address=self._address,
            api_url=self._api_url,
            outputs=str(home.outputs),
            devices=self._environments.devices,
        )
        result = self._environments.variables(name) | told | self._environments.pinned(name)
        paths = [str(self._home.sdk), *([told["PYTHONPATH"]] if told.get("PYTHONPATH") else [])]
        result["PYTHONPATH"] = os.pathsep.join(paths)
        result["NEXUS_SPOOL"] = str(home.spool)
        result["NEXUS_CHECKPOINTS"] = str(self._home.run_checkpoints(order))
        for input_name in order.inputs:
            result[port_variable(input_name).replace("NEXUS_PORT_", "NEXUS_INPUT_")] = str(input_path(home, input_name))
        if ports:
            result.setdefault("PORT", str(next(iter(ports.values()))))
        return result

    async def look(self, order: TaskOrder) -> Sighting:
        return self._launcher.look(self._home.task(order).job)

    async def is_healthy(self, order: TaskOrder, ports: dict[str, int]) -> bool:
        health = order.health
        if health is None or health.port not in ports:
            return False
        return await _answers("127.0.0.1", ports[health.port], health.path)

    def extend(self, order: TaskOrder, lease_until: float) -> None:
        home = self._home.task(order)
        home.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        fd = os.open(home.lease, os.O_WRONLY | os.O_CREAT, 0o600)
        try:
            os.pwrite(fd, f"{lease_until:020.3f}\n".encode(), 0)
        finally:
            os.close(fd)

    def stop(self, order: TaskOrder) -> None:
        self._launcher.stop(self._home.task(order).job)

    async def activity(self, order: TaskOrder, timeout_s: float) -> None:
        await self._launcher.activity(self._home.task(order), timeout_s)

    async def remove(self, order: TaskOrder) -> None:
        home = self._home.task(order)
        self._launcher.forget(home.job)
        self._launcher.forget_task(home)
        self._home.forget(order)
        self._held.pop(order.task, None)
        await asyncio.to_thread(shutil.rmtree, home.path, ignore_errors=True)

    def _used_environments(self) -> frozenset[str]:
        return frozenset(file.read_text() for file in self._home.tasks.glob("*/environment"))


def shell(script: Path) -> tuple[str, ...]:
    """How a script is run: it stops at the first command that fails, as a Makefile does."""
    bash = shutil.which("bash")
    return (bash, "-eo", "pipefail", str(script)) if bash else ("/bin/sh", "-e", str(script))


def _script(place: Path, text: str) -> Path:
    place.mkdir(mode=0o700, exist_ok=True)
    script = place / "script.sh"
    script.write_text(text if text.endswith("\n") else text + "\n")
    return script


def _reserve(wanted: int, name: str, taken: set[int]) -> int:
    """The port asked for, or a free one. Raises LimitError if it is taken."""
    for _ in range(100):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("", wanted))
            except OSError as error:
                raise LimitError(
                    f"the port {wanted} ({name}) is taken on this node: {error.strerror}",
                    hint="Leave the number out, and listen on the one in " + port_variable(name) + ".",
                ) from error
            port = int(probe.getsockname()[1])
        if port not in taken:
            return port
        if wanted:
            raise LimitError(f"the port {wanted} ({name}) is given to another task of this node")
    raise LimitError("no free port was found on this node")


async def _answers(host: str, port: int, path: str) -> bool:
    """Whether an HTTP GET is answered with 2xx, within two seconds."""
    try:
        async with asyncio.timeout(2.0):
            reader, writer = await asyncio.open_connection(host, port)
            try:
                writer.write(f"GET {path} HTTP/1.1\r\nHost: {host}:{port}\r\nConnection: close\r\n\r\n".encode())
                status = (await reader.readline()).split()
            finally:
                writer.close()
    except (OSError, TimeoutError):
        return False
    return len(status) > 1 and status[1][:1] == b"2"
