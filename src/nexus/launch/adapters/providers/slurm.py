"""A Slurm cluster as a fleet: a machine is a batch job that runs an agent, under the machine's id as its name.

Slurm's own commands are the interface, for they are there wherever a cluster can be used. The name makes everything
repeatable: a second start finds the first, and stop needs no memory.
"""

from __future__ import annotations

import asyncio
import difflib
import os
import shutil
import socket
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec

from nexus.kernel.errors import MissingError, NoCapacityError, UnavailableError, UsageError
from nexus.kernel.units import parse_bytes, parse_seconds
from nexus.launch.adapters.slurm.nodes import SlurmNode, gres_of, offers_of, read_nodes, read_partitions
from nexus.launch.model import Fleet, Machine, Offer
from nexus.launch.ports import MachineSighting, Surroundings
from nexus.launch.protocol import Ticket

SETTINGS = {
    "partitions": "where jobs may go; all that are up, if none is named",
    "account": "whose account pays",
    "qos": "the quality of service to ask for",
    "constraint": "features that nodes must have",
    "time": "how long a machine may live at most, such as 8h; else the partition's default",
    "price": "per hour for a whole node: a number, or one for each partition",
    "spot": "partitions whose jobs may be preempted",
    "gpu_memory": "the memory of a GPU by its type in Slurm, such as {a100: 80GiB}",
    "region": "where the cluster stands",
    "labels": "labels of its nodes",
    "folder": "for tickets and logs: on a file system that the nodes share; else in the server's home",
    "python": "a Python on the nodes that has nexus; else the server's own",
    "scratch": "a folder on each node for the agent; else /tmp",
    "conf": "the slurm.conf to use; else what the commands find",
}
_LOOPBACK = ("127.0.0.1", "localhost", "::1")
_LISTS = ("partitions", "spot")
_MAPS = ("labels", "gpu_memory")
_ALIVE = frozenset({"PENDING", "CONFIGURING", "RUNNING", "SUSPENDED", "STOPPED", "RESIZING", "REQUEUED", "SIGNALING"})
_QUEUED = frozenset({"PENDING", "CONFIGURING", "REQUEUED"})
_NO_ANSWER = (
    "unable to contact",
    "connection refused",
    "timed out",
    "socket",
    "protocol authentication",
    "resolve_ctls",
)
_PASSED = (
    *("HOME", "USER", "LOGNAME", "SHELL", "PATH", "LANG", "LC_ALL", "TZ"),
    *(
        "http_proxy",
        "https_proxy",
        "no_proxy",
        "HTTP_PROXY",
        "HTTPS_PROXY",
        "NO_PROXY",
        "SSL_CERT_FILE",
        "SSL_CERT_DIR",
    ),
)
_SCRIPT = Path(__file__).parent.parent / "slurm" / "job.sh"


class Slurm:
    """Implements `launch.ports.Provider`."""

    def __init__(self, surroundings: Surroundings) -> None:
        self._folder = Path(surroundings.folder)

    def check(self, settings: Mapping[str, Any]) -> dict[str, Any]:
        for name in settings:
            if name not in SETTINGS:
                near = difflib.get_close_matches(name, SETTINGS, n=1)
                hint = f"Did you mean {near[0]}?" if near else f"There are: {', '.join(SETTINGS)}."
                raise UsageError(f"a Slurm fleet has no setting {name!r}", hint=hint)
        checked = {name: _checked(name, value) for name, value in settings.items()}
        conf = checked.get("conf")
        if conf and not Path(conf).is_file():
            raise UsageError(f"there is no {conf}", hint="`conf` is the path of the cluster's slurm.conf.")
        return checked

    async def offers(self, fleet: Fleet) -> Sequence[Offer]:
        nodes, partitions = await asyncio.gather(
            self._ask(fleet, "scontrol", "--detail", "--oneliner", "show", "nodes"),
            self._ask(fleet, "scontrol", "--oneliner", "show", "partitions"),
        )
        up = read_partitions(partitions)
        return offers_of(fleet, up, read_nodes(nodes), fleet.settings)

    async def start(self, fleet: Fleet, machine: Machine, ticket: Ticket) -> dict[str, str]:
        known = await self._jobs(fleet, [machine.id])
        if machine.id in known:
            return {"job": known[machine.id].job}
        await self._need_reach(fleet, machine, ticket.url)
        folder = self._place(fleet, machine)
        _write_ticket(folder, replace(ticket, capacity=machine.offer.capacity))  # of a node that others use too
        job = await self._ask(fleet, "sbatch", *self._words(fleet, machine, folder))
        return {"job": job.strip().partition(";")[0]}

    async def look(self, fleet: Fleet, machines: Sequence[Machine]) -> Mapping[str, MachineSighting]:
        known = await self._jobs(fleet, [machine.id for machine in machines])
        by_id = {machine.id: machine for machine in machines}
        return {name: self._sighting(fleet, by_id[name], job) for name, job in known.items() if name in by_id}

    async def stop(self, fleet: Fleet, machine: Machine) -> None:
        await self._ask(fleet, "scancel", "--quiet", f"--name={machine.id}")
        folder = self._place(fleet, machine)
        await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)

    async def close(self) -> None:
        """Nothing is held open."""

    async def _need_reach(self, fleet: Fleet, machine: Machine, url: str) -> None:
        """Refuse what would wait in vain: a server of this machine only, and nodes elsewhere. Raises UsageError."""
        if (urlsplit(url).hostname or "") not in _LOOPBACK:
            return
        nodes = read_nodes(await self._ask(fleet, "scontrol", "--detail", "--oneliner", "show", "nodes"))
        here = socket.gethostname()
        there = [node.name for node in nodes.get(_partition(machine), ()) if not _is_here(node, here)]
        if there:
            raise UsageError(
                f"{there[0]} cannot reach this server at {url}, which only its own machine can",
                hint="Set `host` and `public_url` to an address that the nodes see (config.toml, or NEXUS_PUBLIC_URL).",
            )

    def _words(self, fleet: Fleet, machine: Machine, folder: Path) -> list[str]:
        """What sbatch is told. The script's own arguments name the ticket's file, never what is in it."""
        settings, capacity = fleet.settings, machine.offer.capacity
        scratch = settings.get("scratch", "/tmp")  # noqa: S108 (mkdtemp makes a private folder there)
        words = [
            "--parsable",
            f"--job-name={machine.id}",
            f"--partition={_partition(machine)}",
            "--nodes=1",
            "--ntasks=1",
            f"--cpus-per-task={max(1, int(capacity.cpu))}",
            f"--output={folder / 'agent.log'}",
            f"--chdir={scratch}",
            "--export=ALL",  # of the little that sbatch itself is given; anything else has Slurm load a login shell
            "--no-requeue",  # whoever lost its machine is placed anew, maybe elsewhere
        ]
        if capacity.memory_b:
            words.append(f"--mem={capacity.memory_b // 1024**2}M")
        if capacity.gpus:
            words.append(f"--gres={gres_of(capacity.gpus)}")
        if settings.get("time"):
            words.append(f"--time={max(1, round(settings['time'] / 60))}")
        words += [f"--{name}={settings[name]}" for name in ("account", "qos", "constraint") if settings.get(name)]
        python = settings.get("python") or sys.executable
        return [*words, str(_SCRIPT), python, "-m", "nexus.agent.captive", str(folder / "ticket.json"), scratch]

    def _place(self, fleet: Fleet, machine: Machine) -> Path:
        """The folder of one machine, which its job reads and writes."""
        return Path(fleet.settings.get("folder") or self._folder).expanduser() / machine.id

    async def _jobs(self, fleet: Fleet, names: Sequence[str]) -> dict[str, _Job]:
        """The jobs of these names that Slurm remembers; of several, the newest."""
        if not names:
            return {}
        text = await self._ask(
            fleet, "squeue", "--noheader", "--states=all", "--format=%i|%j|%T|%r", f"--name={','.join(names)}"
        )
        jobs = [_Job(*line.split("|", 3)) for line in text.splitlines() if line.count("|") >= 3]
        return {job.name: job for job in sorted(jobs, key=lambda job: int(job.job) if job.job.isdigit() else 0)}

    def _sighting(self, fleet: Fleet, machine: Machine, job: _Job) -> MachineSighting:
        state = job.state.lower().replace("_", " ")
        if job.state in _QUEUED:
            why = "" if job.reason in {"", "None"} else f": {job.reason}"
            return MachineSighting(alive=True, detail=f"the Slurm job {job.job} is {state}{why}", queued=True)
        if job.state in _ALIVE:
            return MachineSighting(alive=True, detail=f"the Slurm job {job.job} is {state}")
        said = _last_line(self._place(fleet, machine) / "agent.log")
        return MachineSighting(
            alive=False, detail=f"the Slurm job {job.job} ended: {state}{f' ({said})' if said else ''}"
        )

    async def _ask(self, fleet: Fleet, program: str, *words: str) -> str:
        """The output of one of Slurm's commands. Raises MissingError, NoCapacityError, UnavailableError."""
        path = shutil.which(program)
        if path is None:
            raise MissingError(f"{program} is not on this machine", hint="Install Slurm's client commands.")
        environ = {name: os.environ[name] for name in _PASSED if name in os.environ}
        conf = fleet.settings.get("conf") or os.environ.get("SLURM_CONF")
        process = await asyncio.create_subprocess_exec(
            path,
            *words,
            env=environ | ({"SLURM_CONF": str(conf)} if conf else {}),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            out, err = await process.communicate()
        except asyncio.CancelledError:
            process.kill()
            await process.wait()
            raise
        if process.returncode == 0:
            return out.decode(errors="replace")
        said = " ".join(err.decode(errors="replace").split()) or f"exit code {process.returncode}"
        if program != "sbatch" or any(words in said.lower() for words in _NO_ANSWER):
            raise UnavailableError(f"{program} of the fleet {fleet.name}: {said}", hint="Is the cluster up?")
        raise NoCapacityError(f"Slurm refused the job: {said}", hint="Look at the fleet's settings, and at sinfo.")


class _Job(msgspec.Struct, frozen=True):
    """A job as squeue tells it."""

    job: str
    name: str
    state: str
    reason: str


def _partition(machine: Machine) -> str:
    return machine.offer.machine.partition("/")[0]


def _is_here(node: SlurmNode, here: str) -> bool:
    """Whether the node is the server's own machine."""
    return node.address in _LOOPBACK or node.host.partition(".")[0] == here.partition(".")[0]


def _checked(name: str, value: Any) -> Any:
    """One setting as it is kept. Raises UsageError."""
    try:
        if name in _LISTS:
            return [str(one) for one in (value.split(",") if isinstance(value, str) else value)]
        if name == "time":
            return parse_seconds(value)
        if name == "price":
            return {str(key): float(one) for key, one in value.items()} if isinstance(value, Mapping) else float(value)
        if name in _MAPS:
            convert = parse_bytes if name == "gpu_memory" else str
            return {str(key): convert(one) for key, one in value.items()}
    except (TypeError, ValueError, AttributeError) as error:
        raise UsageError(f"the setting {name} is {value!r}", hint=f"{name}: {SETTINGS[name]}.") from error
    if not isinstance(value, str) or not value or value.startswith("-") or "\n" in value:
        raise UsageError(f"the setting {name} is {value!r}", hint=f"{name}: {SETTINGS[name]}.")
    return value


def _write_ticket(folder: Path, ticket: Ticket) -> None:
    """The ticket, for its job's eyes only; a start that is tried again writes it anew."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    draft = folder / "ticket.json.new"
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(msgspec.json.encode(ticket))
    draft.replace(folder / "ticket.json")


def _last_line(log: Path) -> str:
    """What an agent said last before it ended; a hint's arrow line is left out."""
    try:
        lines = log.read_text(errors="replace")[-2000:].splitlines()
    except OSError:
        return ""
    said = [line.strip() for line in lines if line.strip() and "→" not in line and "***" not in line]
    return said[-1][:200] if said else ""
