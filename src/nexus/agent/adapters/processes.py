"""Tasks as processes of this machine, in a sandbox, or in containers, each under a shim."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
from collections.abc import Mapping
from dataclasses import replace

from nexus.agent.adapters.environments import Environments
from nexus.agent.adapters.groups import Groups
from nexus.agent.adapters.home import Home, TaskHome
from nexus.agent.adapters.isolation.levels import CONTAINER, SANDBOX, Isolation
from nexus.agent.adapters.launcher import Launcher, Program
from nexus.agent.adapters.preparing import Preparation, read_image, shell_argv, shell_of, write_script
from nexus.agent.adapters.workspace import input_path
from nexus.agent.core.secrecy import secret_values
from nexus.agent.model import Sighting
from nexus.agent.ports import Fetch, Say
from nexus.kernel.errors import LimitError
from nexus.launch.core.environment import environment, port_variable
from nexus.launch.protocol import TaskOrder


class ProcessRunner:
    """Implements `ports.Runner`. `address` and `api_url` are what tasks are told of this node and of the server."""

    def __init__(
        self,
        home: Home,
        launcher: Launcher,
        environments: Environments,
        preparation: Preparation,
        isolation: Isolation,
        *,
        address: str,
        api_url: str,
    ) -> None:
        self._home = home
        self._launcher = launcher
        self._environments = environments
        self._preparation = preparation
        self._isolation = isolation
        self._groups = Groups(home.path)
        self._address = address
        self._api_url = api_url
        self._held: dict[str, list[int]] = {}  # ports given to tasks that may not listen yet

    async def prepare(self, order: TaskOrder, fetch: Fetch, say: Say) -> None:
        await self._preparation.prepare(order, fetch, say)

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
        level = self._isolation.level(order)
        if level == CONTAINER:
            program = await self._in_container(order, home, ports)
        else:
            program = self._as_process(order, home, ports, is_sandboxed=level == SANDBOX)
        self._launcher.start(home.job, home, program)

    def _as_process(self, order: TaskOrder, home: TaskHome, ports: Mapping[str, int], *, is_sandboxed: bool) -> Program:
        name = home.environment.read_text() if home.environment.exists() else None
        told = self._environments.variables(name) | self._told(order, home, ports) | self._environments.pinned(name)
        program = self._program(order, home, told, shell_argv(write_script(home.job, order.script)))
        if is_sandboxed:
            readable = () if name is None else (self._environments.path(name),)
            enclosure = self._isolation.enclosure(order, home, *readable)
            program = self._isolation.in_sandbox(home.job, program, enclosure)
        return self._held_to(order, home, program)

    async def _in_container(self, order: TaskOrder, home: TaskHome, ports: Mapping[str, int]) -> Program:
        image = read_image(home)
        containers = await self._isolation.containers(image.ref)
        told = self._preparation.container_variables() | self._told(order, home, ports)
        told["CUDA_VISIBLE_DEVICES"] = ",".join(map(str, range(len(order.gpus))))  # the others are not in there
        program = self._program(order, home, told, shell_argv(write_script(home.job, order.script), shell_of(image)))
        program = containers.around(image, home, home.job, program, self._isolation.enclosure(order, home))
        return program if containers.engine.limits else self._held_to(order, home, program)

    def _program(self, order: TaskOrder, home: TaskHome, env: dict[str, str], script: tuple[str, ...]) -> Program:
        return Program(
            argv=order.argv or script,
            env=env,
            cwd=home.work,
            timeout_s=order.timeout_s,
            grace_s=order.grace_s,
            secrets=secret_values(order),
        )

    def _held_to(self, order: TaskOrder, home: TaskHome, program: Program) -> Program:
        """With no more than the memory and the share of cpu that the task asked for."""
        made, own = self._groups.make(home.path.name, cpu=order.cpu, memory_b=order.memory_b)
        return replace(program, memory_b=order.memory_b, groups=tuple(made), own_groups=tuple(own))

    def _told(self, order: TaskOrder, home: TaskHome, ports: Mapping[str, int]) -> dict[str, str]:
        """What a task is told, wherever it runs; nothing else of the agent's gets there."""
        result = environment(
            order,
            ports=ports,
            address=self._address,
            api_url=self._api_url,
            outputs=str(home.outputs),
            devices=self._environments.devices,
        )
        paths = [str(self._home.sdk), *([result["PYTHONPATH"]] if result.get("PYTHONPATH") else [])]
        result["PYTHONPATH"] = os.pathsep.join(paths)
        result["NEXUS_SPOOL"] = str(home.spool)
        result["NEXUS_CHECKPOINTS"] = str(self._home.run_checkpoints(order))
        for input_name in order.inputs:
            result[port_variable(input_name).replace("NEXUS_PORT_", "NEXUS_INPUT_")] = str(input_path(home, input_name))
        if order.gpus:
            result.setdefault("CUDA_DEVICE_ORDER", "PCI_BUS_ID")  # as the node counts them; else the fastest is first
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
