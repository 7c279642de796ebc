"""What an enclosed task may touch of its machine: nothing but this."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import nexus
from nexus.agent.adapters.launcher import Program
from nexus.kernel.errors import UsageError

SHELL = "/bin/sh"
WITH_VARIABLES = '. "$0"; exec "$@"'  # given the file and the command
# The same for a job: when its first process has ended of a stop, the others still have the time until they are killed.
FIRST = """. "$0"
nexus_stopping=
trap 'nexus_stopping=yes; {also}' TERM
"$@" &
nexus_job=$!
wait $nexus_job; nexus_code=$?
while kill -0 $nexus_job 2>/dev/null; do wait $nexus_job; nexus_code=$?; done
while test "$nexus_stopping" && kill -0 -1 2>/dev/null; do sleep 0.05 || break; done
exit $nexus_code
"""
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


@dataclass(frozen=True, slots=True, kw_only=True)
class Enclosure:
    """Folders are at the same place inside as outside, so that a path means the same to the job and to the agent."""

    writable: tuple[Path, ...]
    readable: tuple[Path, ...]
    private: Path  # for its temporary files and its HOME; goes with the task
    hidden: tuple[Path, ...] = ()  # what would be seen because it lies where programs do
    gpus: tuple[int, ...] = ()
    cpu: float = 0.0
    memory_b: int = 0

    def make(self) -> None:
        """Create the private folders."""
        for folder in (self.private, self.tmp, self.home):
            folder.mkdir(mode=0o700, exist_ok=True)

    @property
    def tmp(self) -> Path:
        """What the task sees as /tmp."""
        return self.private / "tmp"

    @property
    def home(self) -> Path:
        """The task's HOME."""
        return self.private / "home"


def python_folders() -> tuple[Path, ...]:
    """Where this program's Python and its libraries lie, which tasks without an environment of their own run on."""
    folders = {Path(sys.prefix), Path(sys.base_prefix), Path(os.path.realpath(sys.executable)).parent.parent}
    return tuple(sorted(folders | {sdk_folder()}))


def sdk_folder() -> Path:
    """This package, which holds the SDK."""
    return Path(nexus.__file__).parent


def written_variables(place: Path, env: Mapping[str, str]) -> Path:
    """A file that sets a task's variables in a shell inside. They are not given to what runs around it: a library to
    be loaded first, say, would be loaded outside. Raises UsageError for a name that a shell cannot set.
    """
    return write_private(place / "variables.sh", as_shell(env))


def as_shell(env: Mapping[str, str]) -> str:
    """Variables as a shell reads them. Raises UsageError."""
    lines = []
    for name, value in env.items():
        if _NAME.fullmatch(name) is None:
            raise UsageError(f"{name!r:.80} cannot name a variable here", hint="Use letters, digits and _ only.")
        quoted = value.replace("'", "'\\''")
        lines.append(f"export {name}='{quoted}'\n")
    return "".join(lines)


def write_private(file: Path, text: str) -> Path:
    """For the owner only: there are secrets in it."""
    fd = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(fd, "w", encoding="utf-8", errors="surrogateescape") as out:
        out.write(text)
    return file


def wrapped(program: Program, argv: tuple[str, ...], **changes: Any) -> Program:
    """The program inside another, which passes on its exit code as shells do: 128 and the number for a signal."""
    return replace(program, argv=argv, wrapped=True, **changes)
