"""What `nexus doctor` looks at: a function a thing, each of which says what it found and how to get what is missing."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from enum import StrEnum
from importlib.util import find_spec

from nexus import __version__
from nexus.app.settings import Settings
from nexus.infra.clock import SystemClock
from nexus.kernel.errors import NexusError
from nexus.kernel.units import format_bytes

_LITTLE_DISK_B = 5 * 1024**3
_SKEW_S = 30.0  # tokens and leases survive more, but times in logs would mislead


class State(StrEnum):
    """How a thing is."""

    OK = "ok"
    MISSING = "missing"  # not here, and not needed for everything
    BROKEN = "broken"  # it is in the way of work


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing, as it was found. `fix` is a command or a sentence."""

    name: str
    state: State
    says: str
    fix: str = ""


Check = Callable[[Settings], Iterator[Finding]]


def examine(settings: Settings) -> list[Finding]:
    """Everything, in the order in which it should be mended."""
    return [finding for check in CHECKS for finding in check(settings)]


def _python(_: Settings) -> Iterator[Finding]:
    version = ".".join(map(str, sys.version_info[:3]))
    yield Finding("python", State.OK, f"{version} at {sys.executable}, Nexus {__version__}")


def _home(settings: Settings) -> Iterator[Finding]:
    path = settings.home
    folder = next(one for one in (path, *path.parents) if one.exists())
    if not os.access(folder, os.W_OK):
        yield Finding("home", State.BROKEN, f"{path} cannot be written", "Name another folder with NEXUS_HOME.")
        return
    free = shutil.disk_usage(folder).free
    fix = "Make room there, or name another folder with NEXUS_HOME." if free < _LITTLE_DISK_B else ""
    state = State.BROKEN if free < _LITTLE_DISK_B // 10 else State.OK
    yield Finding("home", state, f"{path}, {format_bytes(free)} free", fix)
    if path.exists() and path.stat().st_mode & 0o077:
        says = f"{path} can be read by others of this machine, and it holds tokens"
        yield Finding("home", State.BROKEN, says, f"chmod 700 {path}")


def _machine(_: Settings) -> Iterator[Finding]:
    from nexus.agent.adapters.probe import cpus, memory_b, nvidia_gpus

    yield Finding("machine", State.OK, f"{cpus():g} cpu, {format_bytes(memory_b())} memory")
    gpus, driver = nvidia_gpus()
    if gpus:
        names = ", ".join(f"{gpu.name} {format_bytes(gpu.memory_b)}" for gpu in gpus)
        yield Finding("gpu", State.OK, f"{names} (driver {driver})" if driver else names)
    else:
        fix = "If there is one, install its driver: nvidia-smi must list it."
        yield Finding("gpu", State.MISSING, "no NVIDIA GPU is seen", fix)


def _programs(_: Settings) -> Iterator[Finding]:
    from nexus.agent.adapters.environments import find_uv
    from nexus.agent.adapters.isolation.levels import working_engine
    from nexus.agent.adapters.isolation.sandbox import find_sandbox
    from nexus.agent.adapters.probe import boot_id

    uv = find_uv(os.environ)
    yield (
        Finding("uv", State.OK, f"{uv}: environments are made in seconds")
        if uv
        else Finding("uv", State.MISSING, "environments are made by venv and pip, which is slow", "pip install uv")
    )
    engine = working_engine(boot_id())
    if engine:
        yield Finding("containers", State.OK, f"{engine.name} works: jobs with an `image` can run here")
    else:
        here = shutil.which("podman") or shutil.which("docker")
        says = f"{here} does not work for this user" if here else "jobs with an `image` cannot run here"
        fix = f"Try: {here} run --rm IMAGE true" if here else "apt-get install podman"
        yield Finding("containers", State.MISSING, says, fix)
    if find_sandbox(os.environ.get("PATH")):
        yield Finding("sandbox", State.OK, "bubblewrap works: jobs may ask for `isolation: sandbox`")
    else:
        fix = "Install bubblewrap (bwrap), and allow user namespaces."
        yield Finding("sandbox", State.MISSING, "jobs cannot be sandboxed here", fix)
    if shutil.which("sbatch"):
        yield Finding("slurm", State.OK, "a Slurm cluster can be used from here: nexus fleet add slurm")


def _extras(_: Settings) -> Iterator[Finding]:
    for name, (module, gives) in EXTRAS.items():
        if find_spec(module):
            yield Finding(name, State.OK, gives)
        else:
            yield Finding(name, State.MISSING, f"without it: no {gives}", f"pip install 'nexus[{name}]'")


def _server(settings: Settings) -> Iterator[Finding]:
    from nexus.app.connect import running

    http = running(settings, 5.0)
    if http is None:
        yield Finding("server", State.OK, "not running; it starts with the first launch, or with: nexus up")
        return
    try:
        answer = http.request("GET", "/healthz")
        yield Finding("server", State.OK, f"{http.url} answers")
        yield from _clock(answer.headers.get("date", ""))
        http.request("GET", "/v1/runs", params={"limit": 1})
        yield Finding("login", State.OK, "the token works")
    except NexusError as error:
        yield Finding("server", State.BROKEN, error.message, error.hint)
    finally:
        http.close()


def _clock(date: str) -> Iterator[Finding]:
    """The server's wall clock beside ours."""
    try:
        skew = SystemClock().now() - parsedate_to_datetime(date).timestamp()
    except (TypeError, ValueError):
        return
    if abs(skew) > _SKEW_S:
        says = f"this machine's clock is {abs(skew):.0f} s {'ahead of' if skew > 0 else 'behind'} the server's"
        yield Finding("clock", State.BROKEN, says, "Let both keep time by NTP: timedatectl set-ntp true")


def _agent(settings: Settings) -> Iterator[Finding]:
    from nexus.agent.wire import local_status

    try:
        status = local_status(settings.home / "agent")
    except NexusError:
        yield Finding("agent", State.OK, "this machine has joined no server; `nexus up` makes it join its own")
        return
    running = "running" if status.running else "not running"
    yield Finding("agent", State.OK, f"{status.name} of {status.url}: {running}, {len(status.tasks)} tasks")


# An extra of the package -> a module that only it brings, and what it is good for.
EXTRAS: dict[str, tuple[str, str]] = {
    "torch": ("torch", "training and federated learning in PyTorch"),
    "llm": ("peft", "fine-tuning and chat with language models"),
    "federate": ("safetensors", "models as federated frames"),
    "postgres": ("psycopg", "PostgreSQL instead of a file"),
    "ssh": ("asyncssh", "machines over ssh: nexus fleet add ssh"),
}
CHECKS: tuple[Check, ...] = (_python, _home, _machine, _programs, _extras, _server, _agent)
