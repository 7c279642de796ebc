"""A real Slurm on one machine: munged, slurmctld and three slurmd with made-up GPUs, for tests and benchmarks."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.ports import free_port

NODES, CPUS, MEMORY_MB, GPUS = 3, 8, 65_536, 4
_PROGRAMS = ("slurmctld", "slurmd", "munged", "sbatch", "runuser")
_READY_S = 20.0


@dataclass(frozen=True)
class Cluster:
    """A cluster that answers. `conf` is what SLURM_CONF names."""

    folder: Path
    conf: Path

    def run(self, *words: str) -> str:
        """A client's output."""
        environ = os.environ | {"SLURM_CONF": str(self.conf)}
        done = subprocess.run(words, env=environ, capture_output=True, text=True, timeout=30, check=True)
        return done.stdout


def missing() -> str:
    """Why no cluster can be started here; empty when one can."""
    absent = [name for name in _PROGRAMS if _program(name) is None]
    if absent:
        return f"{', '.join(absent)} not installed (make engines)"
    return "" if os.geteuid() == 0 else "slurmd and its devices need root"


@contextmanager
def cluster(folder: Path) -> Iterator[Cluster]:
    """Start everything under `folder`, and end it again."""
    folder.chmod(0o755)
    daemons = []
    try:
        daemons.append(_munged(folder))
        conf = _configure(folder)
        found = Cluster(folder, conf)
        daemons.append(_start(folder, "slurmctld", "-D", "-c", "-i", "-f", str(conf)))
        daemons += [_start(folder, "slurmd", "-D", "-N", f"n{at}", "-f", str(conf)) for at in range(1, NODES + 1)]
        _wait_idle(found, daemons)
        yield found
    finally:
        for daemon in reversed(daemons):
            daemon.terminate()
        for daemon in daemons:
            try:
                daemon.wait(10)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()


def _munged(folder: Path) -> subprocess.Popen[bytes]:
    """Its own daemon with its own key: one that runs on the machine already stays as it is."""
    own = folder / "munge"
    own.mkdir(mode=0o755)
    key = own / "key"
    key.write_bytes(os.urandom(128))
    key.chmod(0o400)
    for path in (own, key):
        shutil.chown(path, "munge", "munge")
    words = [f"--{name}={own / name}" for name in ("socket", "pid-file", "log-file", "seed-file")]
    program = _program("munged") or "munged"
    command = ["runuser", "-u", "munge", "--", program, "-F", "--num-threads=2", f"--key-file={key}", *words]
    daemon = _spawn(folder, "munged", command)
    _until(lambda: (own / "socket").exists() or daemon.poll() is not None, "munged")
    return daemon


def _configure(folder: Path) -> Path:
    host = socket.gethostname().split(".")[0]
    devices = folder / "dev"
    devices.mkdir()
    for at in range(GPUS):
        subprocess.run(["mknod", "-m", "666", str(devices / f"gpu{at}"), "c", "1", "3"], check=True)  # like /dev/null
    (folder / "gres.conf").write_text(
        "".join(f"NodeName=n{at} Name=gpu Type=h100 File={devices}/gpu[0-{GPUS - 1}]\n" for at in range(2, NODES + 1))
    )
    nodes = [
        f"NodeName=n{at} NodeHostname={host} NodeAddr=127.0.0.1 Port={free_port()} CPUs={CPUS} RealMemory={MEMORY_MB}"
        + (f" Gres=gpu:h100:{GPUS}" if at > 1 else "")
        for at in range(1, NODES + 1)
    ]
    lines = [
        "ClusterName=bench",
        f"SlurmctldHost={host}(127.0.0.1)",
        f"SlurmctldPort={free_port()}",
        "SlurmUser=root",
        "SlurmdUser=root",
        "AuthType=auth/munge",
        f"AuthInfo=socket={folder / 'munge' / 'socket'}",
        "CredType=cred/munge",
        "ProctrackType=proctrack/linuxproc",
        "TaskPlugin=task/none",
        "MpiDefault=none",
        "SelectType=select/cons_tres",
        "SelectTypeParameters=CR_Core_Memory",
        "GresTypes=gpu",
        "SchedulerParameters=sched_min_interval=0,bf_interval=1",
        "SlurmdParameters=config_overrides",
        "JobAcctGatherType=jobacct_gather/none",
        "AccountingStorageType=accounting_storage/none",
        "ReturnToService=2",
        "KillWait=2",
        "MinJobAge=2",
        "InactiveLimit=0",
        f"StateSaveLocation={folder / 'state'}",
        f"SlurmdSpoolDir={folder / 'spool'}/%n",
        f"SlurmctldPidFile={folder / 'slurmctld.pid'}",
        f"SlurmdPidFile={folder / 'slurmd'}.%n.pid",
        *nodes,
        "PartitionName=cpu Nodes=n1 Default=YES MaxTime=60 State=UP",
        f"PartitionName=gpu Nodes=n[2-{NODES}] MaxTime=INFINITE State=UP",
    ]
    (folder / "state").mkdir()
    (folder / "spool").mkdir()
    conf = folder / "slurm.conf"
    conf.write_text("\n".join(lines) + "\n")
    return conf


def _wait_idle(found: Cluster, daemons: list[subprocess.Popen[bytes]]) -> None:
    def idle() -> bool:
        dead = [daemon.args for daemon in daemons if daemon.poll() is not None]
        assert not dead, f"ended at once: {dead}; its log is in {found.folder}"
        try:
            states = found.run("sinfo", "-h", "-N", "-o", "%T").split()
        except subprocess.CalledProcessError:
            return False  # slurmctld does not answer yet
        return states == ["idle"] * NODES

    _until(idle, "slurm")


def _start(folder: Path, name: str, *words: str) -> subprocess.Popen[bytes]:
    return _spawn(folder, f"{name}{'-' + words[2] if '-N' in words else ''}", [_program(name) or name, *words])


def _spawn(folder: Path, name: str, command: list[str]) -> subprocess.Popen[bytes]:
    with (folder / f"{name}.log").open("wb") as log:
        return subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True)


def _program(name: str) -> str | None:
    return shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")


def _until(done: object, what: str) -> None:
    assert callable(done)
    deadline = time.monotonic() + _READY_S
    while not done():
        assert time.monotonic() < deadline, f"{what} does not answer after {_READY_S:g} s"
        time.sleep(0.05)
