"""`nexus port-forward`: a port of a running task on this machine."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import signal
import threading
from dataclasses import dataclass, field

import click

from nexus.infra.shell import Shell
from nexus.kernel.errors import ConflictError, NexusError, UsageError
from nexus.launch.calls import CallKind, CallRequest
from nexus.launch.core.reaching import port_of, reached
from nexus.launch.faces.calling import attach, carry, read_target
from nexus.launch.faces.client import LaunchClient
from nexus.launch.model import Run, Task


@click.command()
@click.argument("target", metavar="RUN[/ROLE.INDEX]")
@click.argument("ports", nargs=-1, metavar="[LOCAL:]PORT...")
@click.option("--address", default="127.0.0.1", show_default=True, help="Where to listen on this machine.")
@click.pass_obj
def command(shell: Shell, target: str, ports: tuple[str, ...], address: str) -> None:
    """Listen here, and pass every connection on to a PORT of a running task, until the run ends or Ctrl-C.

    PORT is a number, or the name that the job gives it (`http`); LOCAL is the number here, 0 for any. Without a PORT,
    all that the job names. The task may be behind NAT: the bytes go through the server, to which its agent dials out.
    """
    run_name, role, index = read_target(target)
    client = LaunchClient(shell.http)
    run = client.run(run_name)
    request = CallRequest(kind=CallKind.PORT, role=role, index=index)
    task = reached(run, client.tasks(run.id), request)
    wanted = [_read(text, run, task) for text in ports] or [
        _Wanted(name, number, is_asked=False) for name, number in task.ports.items()
    ]
    if not wanted:
        raise UsageError(
            f"the run {run.name} names no ports", hint=f"Give the number: nexus port-forward {target} 8000"
        )
    asyncio.run(_Forwarding(shell, client, run, task, address).run(wanted))


@dataclass(frozen=True, slots=True)
class _Wanted:
    port: str
    local: int
    is_asked: bool = True  # for this number; else any other will do when it is taken


def _read(text: str, run: Run, task: Task) -> _Wanted:
    """Raises UsageError, NotFoundError."""
    local, colon, port = text.rpartition(":")
    number = port_of(run, task, port)
    if not colon:
        return _Wanted(port, number, is_asked=port.isdigit())
    if not local.isdigit() or int(local) > 65535:
        raise UsageError(f"{text!r} names no port", hint="Write LOCAL:PORT, such as 8080:http or 8080:8000")
    return _Wanted(port, int(local))


@dataclass
class _Forwarding:
    shell: Shell
    client: LaunchClient
    run_seen: Run
    task: Task
    address: str
    said: set[str] = field(default_factory=set)

    async def run(self, wanted: list[_Wanted]) -> None:
        """Raises ConflictError when a port here is taken."""
        loop = asyncio.get_running_loop()
        over: asyncio.Future[str] = loop.create_future()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, _settle, over, "")
        async with contextlib.AsyncExitStack() as stack:
            for one in wanted:
                server = await self._listen(one)
                await stack.enter_async_context(server)
                self._greet(one, server.sockets[0].getsockname()[1])
            threading.Thread(target=self._watch, args=(loop, over), daemon=True).start()
            self.shell.note(await over or "No ports are forwarded any more.")

    async def _listen(self, wanted: _Wanted) -> asyncio.Server:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await self._serve(wanted.port, reader, writer)

        try:
            return await asyncio.start_server(serve, self.address, wanted.local)
        except OSError as error:
            if error.errno == errno.EADDRINUSE and not wanted.is_asked:
                return await asyncio.start_server(serve, self.address, 0)
            raise ConflictError(
                f"cannot listen on {self.address}:{wanted.local}: {error.strerror}",
                hint=f"Choose another, or any: nexus port-forward {self.run_seen.name} 0:{wanted.port}",
            ) from error

    def _greet(self, wanted: _Wanted, local: int) -> None:
        host = f"[{self.address}]" if ":" in self.address else self.address
        url, place = f"http://{host}:{local}", f"{self.task.role}.{self.task.index}"
        if self.shell.json:
            self.shell.emit({"url": url, "port": wanted.port, "run": self.run_seen.id, "task": self.task.id})
        self.shell.say(f"{url} is port {wanted.port} of {self.run_seen.name}/{place}  (Ctrl-C ends it)")

    async def _serve(self, port: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection. What goes wrong is said once, and cuts it."""
        request = CallRequest(kind=CallKind.PORT, role=self.task.role, index=self.task.index, port=port)
        socket = None
        try:
            call = await asyncio.to_thread(self.client.call, self.run_seen.id, request)
            socket = await attach(self.client.http, call)
            await carry(socket, reader, writer)
        except (NexusError, OSError) as error:
            writer.transport.abort()
            words = error.message if isinstance(error, NexusError) else f"a connection broke: {error}"
            if words not in self.said:
                self.said.add(words)
                self.shell.note(words)
        finally:
            writer.close()
            if socket is not None:
                await socket.close()

    def _watch(self, loop: asyncio.AbstractEventLoop, over: asyncio.Future[str]) -> None:
        """In a thread of its own, for it waits for the server: the end of the run ends the forwarding."""
        with contextlib.suppress(NexusError, RuntimeError):
            *_, last = self.client.follow(self.run_seen.id)
            words = f"The run {last.name} is over: {last.state}. No ports are forwarded any more."
            loop.call_soon_threadsafe(_settle, over, words)


def _settle(over: asyncio.Future[str], words: str) -> None:
    if not over.done():
        over.set_result(words)
