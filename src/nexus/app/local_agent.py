"""The agent of `nexus up`: joined without a detour over HTTP, run as a child, started again when it dies."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import signal
import sys
from dataclasses import replace
from pathlib import Path

import structlog

from nexus.access.service import Access
from nexus.agent.adapters.probe import probe
from nexus.agent.wire import Membership, membership, remember
from nexus.kernel.errors import DeniedError, NexusError
from nexus.launch.service import Launch

log = structlog.get_logger()
_PAUSE_S, _LONGEST_PAUSE_S = 0.5, 10.0
_GRACE_S = 10.0


async def join_this_machine(home: Path, url: str, access: Access, launch: Launch, project: str) -> None:
    """See to it that the agent's home holds a membership that this server knows."""
    await asyncio.to_thread(home.mkdir, mode=0o700, parents=True, exist_ok=True)
    member: Membership | None = None
    with contextlib.suppress(NexusError):
        member = membership(home)
    if member and await access.authenticate(member.token):
        if member.url != url:
            remember(home, replace(member, url=url))
        return
    info = await asyncio.to_thread(probe, home, url)
    node = await launch.join(info, project)
    token = await access.node_token(node.id, project)
    remember(home, Membership(url=url, node=node.id, token=token, name=node.name))


async def keep_agent(home: Path, output: Path) -> None:
    """Run the agent until cancelled; when it ends by itself (killed, crashed), start it again after a growing pause.

    Not when its node was removed: then a person does not want it, and the next `nexus up` joins anew.
    """
    pause_s = _PAUSE_S
    await _end_orphan(home)
    while True:
        started = asyncio.get_running_loop().time()
        child = await _start(home, output)
        try:
            code = await child.wait()
        except asyncio.CancelledError:
            await _stop(child)
            raise
        if code == DeniedError.exit_code:
            log.warning(
                "agent.refused", hint="Its node was removed. `nexus down` and `nexus up` join this machine anew."
            )
            return
        log.warning("agent.ended", exit_code=code, again_in_s=pause_s)
        await asyncio.sleep(pause_s)
        lived_s = asyncio.get_running_loop().time() - started
        pause_s = _PAUSE_S if lived_s > 60 else min(pause_s * 2, _LONGEST_PAUSE_S)


async def _end_orphan(home: Path) -> None:
    """An agent that a killed server left behind: its tasks outlive it, and the next agent finds them."""
    try:
        lock = os.open(home / "agent.lock", os.O_RDWR)
    except FileNotFoundError:
        return
    try:
        pid = int(os.read(lock, 32) or b"0")
        for attempt in range(200):
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if pid and attempt in {0, 100}:
                    with contextlib.suppress(ProcessLookupError):  # it has ended by itself
                        os.kill(pid, signal.SIGTERM if attempt == 0 else signal.SIGKILL)
                await asyncio.sleep(0.1)
            else:
                return
    finally:
        os.close(lock)


async def _start(home: Path, output: Path) -> asyncio.subprocess.Process:
    environ = {name: value for name, value in os.environ.items() if not name.startswith("NEXUS_")}
    descriptor = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        return await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "nexus.agent",
            str(home),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=descriptor,
            stderr=descriptor,
            env=environ,
            start_new_session=True,  # Ctrl-C in the terminal is for the server; the server tells its agent
        )
    finally:
        os.close(descriptor)


async def _stop(child: asyncio.subprocess.Process) -> None:
    with contextlib.suppress(ProcessLookupError):
        child.terminate()
    try:
        await asyncio.wait_for(child.wait(), _GRACE_S)
    except TimeoutError:
        child.kill()
        await child.wait()
