"""A small image for containers, made of this machine's own programs: no registry, a second, and once a machine."""

from __future__ import annotations

import io
import re
import shutil
import subprocess
import tarfile
from pathlib import Path

from nexus.agent.adapters.isolation.engine import Engine

IMAGE = "localhost/nexus-test-programs:2"
BARE = "localhost/nexus-test-bare:2"  # with one program and no shell
_PROGRAMS = (
    "sh",
    "bash",
    "cat",
    "echo",
    "env",
    "id",
    "kill",
    "ls",
    "seq",
    "sleep",
    "touch",
    "true",
    "grep",
    "rm",
    "ps",
)
_LEFT_OUT = re.compile(r"/(test|tests|idlelib|lib2to3|ensurepip|tkinter|distutils|config-[^/]*|dist-packages)(/|$)")


def make_images(engine: Engine, env: dict[str, str]) -> None:
    """See that both are there."""
    have = subprocess.run([*engine.argv, "images"], env=env, capture_output=True, text=True, check=True).stdout
    for name, programs, python in ((IMAGE, _PROGRAMS, True), (BARE, ("env",), False)):
        if name.rpartition(":")[0] not in have:
            _make(engine, env, name, programs, with_python=python)


def _make(engine: Engine, env: dict[str, str], name: str, programs: tuple[str, ...], *, with_python: bool) -> None:
    files = _files(programs) | (_python() if with_python else set())
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        for path in sorted(files):
            tar.add(path.resolve(), arcname=str(path), recursive=False)
        passwd = b"root:x:0:0:root:/root:/bin/sh\n"
        info = tarfile.TarInfo("/etc/passwd")
        info.size = len(passwd)
        tar.addfile(info, io.BytesIO(passwd))
    subprocess.run(
        [*engine.argv, "import", "-", name], env=env, input=packed.getvalue(), capture_output=True, check=True
    )


def _files(programs: tuple[str, ...]) -> set[Path]:
    found = set()
    for program in programs:
        path = shutil.which(program, path="/usr/bin:/bin")
        if path is not None:
            found |= {Path("/bin", program), *_libraries(path)}
    return found


def _libraries(program: str) -> set[Path]:
    """What the loader brings in, the loader too."""
    words = subprocess.run(["ldd", program], capture_output=True, text=True, check=False).stdout
    return {Path(path) for path in re.findall(r"(/\S+) \(0x", words)}


def _python() -> set[Path]:
    """The system's Python with its library, where there is one."""
    program = Path("/usr/bin/python3")
    if not program.exists():
        return set()
    library = Path("/usr/lib") / program.resolve().name
    files = {file for file in library.rglob("*") if file.is_file() and not _LEFT_OUT.search(str(file))}
    extensions = [str(file) for file in files if file.suffix == ".so"]
    needed = {path for file in (str(program), *extensions) for path in _libraries(file)}
    return {program, *files, *needed}
