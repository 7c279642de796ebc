"""Container engines: podman, or docker, in the first way of using it that works on this machine.

Which that is cannot be told from versions: control groups, run-times and limits of the machine decide. So a small
container of the machine's own programs is run once after each start of the machine, and the answer is kept.
"""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import msgspec

from nexus.agent.adapters.isolation.enclosure import Enclosure

_CHECK_IMAGE = "localhost/nexus-check"
_EMPTY_TAR = bytes(10_240)
_WAYS = (
    ("podman",),
    ("podman", "--cgroup-manager", "cgroupfs"),
    ("podman", "--runtime", "runc"),
    ("podman", "--runtime", "runc", "--cgroup-manager", "cgroupfs"),
    ("docker",),
)
_PATIENCE_S = 60.0
_NPROC = 16_384  # podman lowers its own limit, and without a capability may not give more than that
_FAILURE_KEPT_S = 3600.0  # its owner may mend it meanwhile
_PASS = ("PATH", "HOME", "USER", "LOGNAME", "TMPDIR", "DBUS_SESSION_BUS_ADDRESS")
_PREFIXES = ("XDG_", "DOCKER_", "CONTAINER", "REGISTRY_", "http", "HTTP", "no_proxy", "NO_PROXY", "SSL_CERT")
_CDI = (Path("/etc/cdi"), Path("/var/run/cdi"))


class Engine(msgspec.Struct, frozen=True, kw_only=True):
    """A way of running containers that works here."""

    argv: tuple[str, ...]
    limits: bool = True  # it can hold a container to its memory

    @property
    def name(self) -> str:
        """`podman` or `docker`."""
        return self.argv[0]

    def run(
        self, name: str, image: str, enclosure: Enclosure, cwd: Path, labels: Mapping[str, str], *, keep: bool = False
    ) -> list[str]:
        """The words before the command. `keep`: it stays after its end, to be made an image."""
        words = [*self.argv, "run", "--name", name, *([] if keep else ["--rm"]), *_always(self.limits)]
        words += [f"--label={key}={value}" for key, value in labels.items()]
        words += ["--user", self._user(), "--workdir", str(cwd), "--entrypoint", ""]
        words += ["--shm-size", str(max(64 * 1024**2, (enclosure.memory_b or _memory_b()) // 2))]
        if enclosure.memory_b and self.limits:
            words += ["--memory", str(enclosure.memory_b), "--memory-swap", str(enclosure.memory_b)]
        if enclosure.cpu and self.limits:
            words += ["--cpu-shares", str(max(2, round(1024 * enclosure.cpu)))]
        for folder in enclosure.readable:
            words += ["--volume", f"{os.path.realpath(folder)}:{folder}:ro"]
        for folder in enclosure.writable:
            words += ["--volume", f"{folder}:{folder}"]
        words += self._gpu_words(enclosure.gpus)
        return [*words, image]

    def _user(self) -> str:
        """Who writes the task's files: the agent's user. Rootless podman calls that one root."""
        return "0:0" if self.name == "podman" else f"{os.getuid()}:{os.getgid()}"

    def _gpu_words(self, gpus: tuple[int, ...]) -> list[str]:
        if not gpus:
            return []
        if self.name == "docker":
            return ["--gpus", '"device={}"'.format(",".join(map(str, gpus)))]
        return [word for index in gpus for word in ("--device", f"nvidia.com/gpu={index}")]

    def end(self, container: str) -> list[str]:
        """The words that kill and remove one at once: it was started with no patience."""
        return ["rm", "--force", container]

    def can_give_gpus(self) -> bool:
        """Whether NVIDIA's part for it is installed."""
        if self.name == "docker":
            return shutil.which("nvidia-container-runtime") is not None
        return any(path.is_file() and "nvidia" in path.name for folder in _CDI for path in folder.glob("*"))


def client_variables(environ: Mapping[str, str]) -> dict[str, str]:
    """What the engine's own program needs. Nothing of a job's: that program runs outside of the container."""
    return {
        name: value
        for name, value in environ.items()
        if name in _PASS or (name.startswith(_PREFIXES) and not name.startswith("NEXUS_"))
    }


def known_engine(cache: Path, boot: str) -> tuple[bool, Engine | None]:
    """Whether it was found out since the machine started, and what."""
    try:
        known = msgspec.json.decode(cache.read_bytes(), type=_Known)
    except (OSError, msgspec.DecodeError):
        return False, None
    age = time.time() - cache.stat().st_mtime  # noqa: TID251 (compared with the time of a file)
    is_fresh = known.boot == boot and known.programs == _programs() and (known.engine or 0 <= age < _FAILURE_KEPT_S)
    return bool(is_fresh), known.engine if is_fresh else None


def find_engine(cache: Path, boot: str, environ: Mapping[str, str]) -> Engine | None:
    """Try every way, and remember the answer. Takes half a second with an engine, nothing without one."""
    engine = next(_working(client_variables(environ)), None) if _programs() else None
    known = _Known(boot=boot, programs=_programs(), engine=engine)
    try:
        cache.parent.mkdir(parents=True, exist_ok=True)
        draft = cache.with_name(f"{cache.name}.{os.getpid()}")
        draft.write_bytes(msgspec.json.encode(known))
        draft.replace(cache)
    except OSError:
        pass  # then it is found out again
    return engine


class _Known(msgspec.Struct, frozen=True, kw_only=True):
    boot: str
    programs: tuple[str, ...]
    engine: Engine | None = None


def _programs() -> tuple[str, ...]:
    """Which engines are installed, and since when."""
    found = [path for path in map(shutil.which, ("podman", "docker", "runc")) if path]
    return tuple(f"{path} {Path(path).stat().st_mtime:.0f}" for path in found)


def _working(env: dict[str, str]) -> Iterator[Engine]:
    for limits in (True, False):
        for way in _WAYS:
            if shutil.which(way[0]) and _works(way, env, limits=limits):
                yield Engine(argv=way, limits=limits)


def _works(way: tuple[str, ...], env: dict[str, str], *, limits: bool) -> bool:
    """Whether a container of the machine's own programs reads a word that only we know: so its folders are ours."""
    cat = os.path.realpath(shutil.which("cat") or "/bin/cat")
    folders = [path for path in ("/usr", "/lib", "/lib64", "/bin") if Path(path).is_dir()]
    with tempfile.TemporaryDirectory() as place:
        word = os.urandom(8).hex()
        Path(place, "word").write_text(word)
        volumes = [f"--volume={path}:{path}:ro" for path in (*folders, place)]
        try:
            _output([*way, "import", "-", _CHECK_IMAGE], env, _EMPTY_TAR)
            run = [*way, "run", "--rm", *_always(limits), *(["--memory", "64m"] if limits else []), *volumes]
            return _output([*run, _CHECK_IMAGE, cat, f"{place}/word"], env) == word
        except (OSError, subprocess.SubprocessError):
            return False
        finally:
            _output([*way, "rmi", "--force", _CHECK_IMAGE], env, is_sure=False)


def _output(argv: list[str], env: dict[str, str], given: bytes = b"", *, is_sure: bool = True) -> str:
    done = subprocess.run(argv, input=given, capture_output=True, timeout=_PATIENCE_S, check=is_sure, env=env)
    return done.stdout.decode("utf-8", "replace")


def _always(limits: bool) -> list[str]:
    """The machine's network, nothing pulled in passing, no second copy of the log, and limits that we may give."""
    words = ["--network", "host", "--pull", "never", "--log-driver", "none", "--security-opt", "no-new-privileges"]
    words += ["--stop-timeout", "0"]
    words += rlimits()
    return words if limits else [*words, "--cgroups=disabled"]


def rlimits() -> list[str]:
    """The limits of this process: an engine's defaults may be more than this machine lets it give."""
    words = []
    for name, kind, most in (("nofile", resource.RLIMIT_NOFILE, 1_048_576), ("nproc", resource.RLIMIT_NPROC, _NPROC)):
        soft, hard = (most if limit < 0 else min(limit, most) for limit in resource.getrlimit(kind))
        words += ["--ulimit", f"{name}={soft}:{hard}"]
    return words


def _memory_b() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
