"""A sandbox by bubblewrap: the machine's programs to read, the task's folders to write, and nobody else's processes.

It is a list of what is there, not of what is hidden: homes, other tasks, the agent's folder, /var and /run are not in
it. The network is the machine's. Capabilities are dropped, root's too. It costs some 30 ms at the start.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path

from nexus.agent.adapters.isolation.enclosure import (
    FIRST,
    SHELL,
    WITH_VARIABLES,
    Enclosure,
    python_folders,
    wrapped,
    written_variables,
)
from nexus.agent.adapters.launcher import Program

_ROOTS = ("/usr", "/opt", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/nix", "/gnu")
# What programs look up: names, time, addresses, certificates, libraries. No keys, no passwords.
_ETC = (
    *("alternatives", "bash.bashrc", "ca-certificates", "ca-certificates.conf", "crypto-policies", "debian_version"),
    *("fonts", "gai.conf", "group", "host.conf", "hostname", "hosts", "inputrc", "ld.so.cache", "ld.so.conf"),
    *("ld.so.conf.d", "locale.alias", "locale.conf", "localtime", "magic", "mime.types", "networks", "nsswitch.conf"),
    *("OpenCL", "os-release", "passwd", "pip.conf", "pki/ca-trust", "pki/tls/cert.pem", "pki/tls/certs", "profile"),
    *("protocols", "redhat-release", "resolv.conf", "rpc", "services", "shells", "ssl/certs", "ssl/cert.pem"),
    *("ssl/openssl.cnf", "terminfo", "timezone", "vulkan"),
)
_GPU_DEVICES = ("/dev/nvidiactl", "/dev/nvidia-uvm", "/dev/nvidia-uvm-tools", "/dev/nvidia-modeset", "/dev/dxg")
# Caches of the machine's owner, which are not in the sandbox.
_OWNERS = ("XDG_CACHE_HOME", "HF_HOME", "TORCH_HOME", "UV_CACHE_DIR", "PIP_CACHE_DIR", "TMPDIR")


# Into the sandbox of the job that a claim names: of the process that the shim knows, the first child is within.
_ENTER = """claim=$0 cwd=$1; shift
for word in $(cat "$claim"); do case $word in job=*) job=${word#job=};; esac; done
read inside rest < "/proc/$job/task/$job/children" || test "$inside" || exit 127
exec nsenter --target "$inside" --user --preserve-credentials --mount --pid --ipc --uts --wd="$cwd" -- "$@"
"""


def sandboxed(bwrap: str, place: Path, program: Program, enclosure: Enclosure) -> Program:
    """The program of a place, inside. Raises UsageError for a variable that a shell cannot set."""
    argv = [bwrap, *_apart(), *_machine(), *_devices(enclosure.gpus)]
    argv += ["--bind", str(enclosure.tmp), "/tmp", "--bind", str(enclosure.tmp), "/var/tmp"]  # noqa: S108
    for folder in reversed(enclosure.hidden):
        argv += ["--tmpfs", str(folder)]
    within = [folder for folder in python_folders() if any(folder.is_relative_to(place) for place in enclosure.hidden)]
    for folder in (*within, *enclosure.readable, place):
        argv += ["--ro-bind", os.path.realpath(folder), str(folder)]
    for folder in (*enclosure.writable, enclosure.home):
        argv += ["--bind", str(folder), str(folder)]
    env = {name: value for name, value in program.env.items() if name not in _OWNERS}
    variables = written_variables(place, env | {"HOME": str(enclosure.home)})
    inside = (SHELL, "-c", WITH_VARIABLES, str(variables))
    first = (SHELL, "-c", FIRST.format(also=":"), str(variables))  # the shim tells the others itself
    for folder in (Path("/"), *enclosure.hidden):
        argv += ["--remount-ro", str(folder)]
    argv += ["--chdir", str(program.cwd), "--", *first, *program.argv]
    enter = (SHELL, "-c", _ENTER, str(place / "claim"), str(program.cwd), *inside)
    clean = {"PATH": os.environ.get("PATH", os.defpath)}
    return wrapped(program, tuple(argv), env=clean, shields=True, enter=enter, enter_tty=enter)


def find_sandbox(path: str | None = None) -> str:
    """Where bubblewrap is, if it works here; else empty. Takes some milliseconds."""
    bwrap = shutil.which("bwrap", path=path)
    if bwrap is None:
        return ""
    try:
        done = subprocess.run(
            [bwrap, *_apart(), *_machine(), *_devices(()), "--", "true"],
            capture_output=True,
            timeout=10,
            check=False,
            env={"PATH": os.environ.get("PATH", os.defpath)},
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return bwrap if done.returncode == 0 else ""


def _apart() -> list[str]:
    """Its own processes, users, semaphores and name; dead when the shim is."""
    spaces = ("user", "pid", "ipc", "uts", "cgroup-try")
    return [*(f"--unshare-{space}" for space in spaces), "--die-with-parent", "--cap-drop", "ALL"]


def _machine() -> list[str]:
    words: list[str] = []
    for root in _ROOTS:
        if os.path.islink(root):  # noqa: PTH114 (asked at each start of a task)
            words += ["--symlink", os.readlink(root), root]  # noqa: PTH115
        elif os.path.isdir(root):  # noqa: PTH112
            words += ["--ro-bind", root, root]
    for name in _ETC:
        words += _read_if_there(f"/etc/{name}")
    words += _read_if_there("/sys")
    for folder in _outside_of_roots(python_folders()):
        words += ["--ro-bind", str(folder), str(folder)]
    return [*words, "--proc", "/proc"]


def _devices(gpus: Iterable[int]) -> list[str]:
    words = ["--dev", "/dev"]
    numbers = [f"/dev/nvidia{index}" for index in gpus]
    for device in (*numbers, *_GPU_DEVICES, "/dev/nvidia-caps") if numbers else ():
        words += ["--dev-bind-try", device, device]
    return words


def _read_if_there(path: str) -> list[str]:
    return ["--ro-bind", os.path.realpath(path), path] if os.path.exists(path) else []  # noqa: PTH110


def _outside_of_roots(folders: Iterable[Path]) -> list[Path]:
    return [folder for folder in folders if not any(folder.is_relative_to(root) for root in _ROOTS)]
