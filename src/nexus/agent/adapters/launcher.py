"""Start shims, find them again, end them. What a shim left on disk is the truth; nothing here needs memory."""

from __future__ import annotations

import asyncio
import fcntl
import os
import shutil
import signal
import subprocess
import threading
import weakref
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import msgspec

from nexus.agent.adapters.home import Home, TaskHome, wake_word
from nexus.agent.adapters.nursery import Nursery, is_alive
from nexus.agent.adapters.shim.formats import decode_spec, decode_status, encode_spec, start_ticks
from nexus.agent.model import Exit, Sighting
from nexus.kernel.errors import LimitError, UsageError
from nexus.kernel.units import format_bytes

LOG_CAP_B = 64 * 1024 * 1024  # of a task's log that the server does not have yet
_CLOSING_S = 60.0  # for a container's engine to end what it started
_PIPE_B = 65_536
_CALM_S = 0.005  # wake-ups are looked at this often at most, however often a job writes


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """What a shim shall run. `letters`: the log streams of its standard output and error.

    `groups` are control groups to start it in, `own_groups` those of this process in the same order. A `wrapped`
    program is within another, whose exit codes above 128 are signals; one that `shields` it dies of the signals that
    are meant for it. `closing` ends what a killed wrapper leaves behind; `enter` and `enter_tty` are the words before
    the command of somebody who comes in, without and with a terminal.
    """

    argv: tuple[str, ...]
    env: dict[str, str]
    cwd: Path
    timeout_s: float | None = None
    grace_s: float = 10.0
    letters: tuple[str, str] = ("o", "e")
    secrets: tuple[str, ...] = ()  # values that must not get into the log, nor stay on the disk
    memory_b: int = 0
    groups: tuple[Path, ...] = ()
    own_groups: tuple[Path, ...] = ()
    wrapped: bool = False
    shields: bool = False
    closing: tuple[str, ...] = ()
    enter: tuple[str, ...] = ()
    enter_tty: tuple[str, ...] = ()


class Launcher:
    """Every shim of this machine's agent."""

    def __init__(self, home: Home, boot: str, log_cap_b: int = LOG_CAP_B) -> None:
        self._home = home
        self._boot = boot
        self._log_cap_b = log_cap_b
        self._nursery = Nursery(home.path)
        self._shims: dict[Path, tuple[int, str]] = {}  # those that this agent had started: who, and since when
        self._news: dict[bytes, _News] = {}  # of each task, by its wake word
        self._pipe = -1

    def close(self) -> None:
        """Stop listening; the shims go on."""
        self._nursery.close()
        if self._pipe >= 0:
            asyncio.get_running_loop().remove_reader(self._pipe)
            os.close(self._pipe)
            self._pipe = -1

    def start(self, place: Path, home: TaskHome, program: Program) -> None:
        """Start `program` at `place`, at most once: a second shim there ends before it does anything.

        Raises LimitError if the disk is full, UsageError for what no process can be given.
        """
        self._listen()
        self._news.setdefault(wake_word(home), _News())
        marker = (
            f"NEXUS_PLACE={place}"  # by which the shim finds children that left the job's session; of this home only
        )
        spec = {
            "argv": list(program.argv),
            "env": [*(f"{name}={value}" for name, value in program.env.items()), marker],
            "cwd": [str(program.cwd)],
            "place": [str(place)],
            "log": [str(home.log)],
            "lease": [str(home.lease)],
            "wake": [str(self._home.wake), wake_word(home).decode()],
            "marker": [marker],
            "timeout_s": [str(program.timeout_s or 0)],
            "grace_s": [str(program.grace_s)],
            "cap_b": [str(self._log_cap_b)],
            "letters": list(program.letters),
            "secrets": list(program.secrets),
            "memory_b": [str(program.memory_b)],
            "groups": [str(group) for group in program.groups],
            "own_groups": [str(group) for group in program.own_groups],
            "wrapped": ["yes" if program.wrapped else "no"],
            "shields": ["yes" if program.shields else "no"],
            "closing": list(program.closing),
            "enter": list(program.enter),
            "enter_tty": list(program.enter_tty),
            "boot": [self._boot],
        }
        try:
            place.mkdir(mode=0o700, parents=True, exist_ok=True)
            fd = os.open(place / "spec", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)  # it holds secrets
            with os.fdopen(fd, "wb") as file:
                file.write(encode_spec(spec))
            self._shims[place] = self._nursery.fork(place / "spec")
        except ValueError as error:
            raise UsageError(str(error), hint="Look at the job's commands, env and secrets.") from error
        except OSError as error:
            raise LimitError(
                f"the task cannot be started: {error.strerror or error}", hint=f"Make room in {self._home.path}."
            ) from error

    def look(self, place: Path) -> Sighting:
        """What became of the program at `place`."""
        is_starting = self._is_shim_alive(place)
        end = _read_exit(place)
        if end is not None:
            return Sighting(exit=end)
        try:
            claim = os.open(place / "claim", os.O_RDONLY)
        except FileNotFoundError:
            return self._unclaimed(place, is_starting)
        try:
            fcntl.flock(claim, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return Sighting(alive=True, detail=_trouble(decode_status(os.pread(claim, 4096, 0))))
        else:
            end = _read_exit(place)  # it may have come since
            return Sighting(exit=end or self._abandoned(place, decode_status(os.pread(claim, 4096, 0))))
        finally:
            os.close(claim)

    def _unclaimed(self, place: Path, is_starting: bool) -> Sighting:
        if is_starting:
            return Sighting(alive=True)
        if place in self._shims:
            try:
                why = (place / "shim.err").read_text(errors="replace")[-2000:]
            except OSError:
                why = ""
            return Sighting(exit=Exit(detail=f"its shim could not start: {why.strip() or 'no reason given'}"))
        return Sighting()

    def _abandoned(self, place: Path, status: dict[str, str]) -> Exit:
        """The shim is dead and left no end: it was killed, or the machine was restarted."""
        spec = decode_spec((place / "spec").read_bytes())
        if spec["boot"] != [self._boot]:
            return Exit(killed_for="reboot")
        job = int(status.get("job") or 0)
        if job and start_ticks(job) == status.get("job_start"):
            os.killpg(job, signal.SIGKILL)
        _close(spec)
        return Exit(detail="its shim was killed, and the job with it")

    def stop(self, place: Path) -> None:
        """TERM to the program and its children, KILL after its grace; nothing if it has ended."""
        try:
            status = decode_status((place / "claim").read_bytes())
            pid = int(status.get("shim") or 0)
            is_same = pid > 0 and start_ticks(pid) == status.get("shim_start")
        except FileNotFoundError:
            pid, is_same = self._shims.get(place, (0, ""))[0], self._is_shim_alive(place)
        if is_same:
            try:
                os.kill(pid, signal.SIGTERM)
            except ProcessLookupError:
                return

    def forget(self, place: Path) -> None:
        """The program has ended, and its place is about to go."""
        self._shims.pop(place, None)

    def forget_task(self, home: TaskHome) -> None:
        """Nobody waits for this task any more."""
        self._news.pop(wake_word(home), None)

    def _is_shim_alive(self, place: Path) -> bool:
        return place in self._shims and is_alive(*self._shims[place])

    async def activity(self, home: TaskHome, timeout_s: float) -> None:
        """Return when the task's shim has said something since this asyncio task last returned from here, or in time.

        Only those who wait for this task wake up: a hundred jobs that write do not wake a hundred others each.
        """
        self._listen()
        me = asyncio.current_task()
        assert me is not None  # noqa: S101 (coroutines run in tasks)
        news = self._news.setdefault(wake_word(home), _News())
        if news.seen.get(me, 0) == news.count:
            try:
                async with asyncio.timeout(timeout_s):
                    await news.woken.wait()
            except TimeoutError:
                pass
        news.seen[me] = news.count

    def _listen(self) -> None:
        if self._pipe < 0:
            self._pipe = os.open(self._home.wake, os.O_RDWR | os.O_NONBLOCK)
            asyncio.get_running_loop().add_reader(self._pipe, self._on_wake)

    def _on_wake(self) -> None:
        loop = asyncio.get_running_loop()
        said = os.read(self._pipe, _PIPE_B)  # whole words: each is written at once, and the pipe holds no more
        # A pipe that was nearly full may have turned words away.
        words = list(self._news) if len(said) > _PIPE_B // 2 else set(said.splitlines(keepends=True))
        for word in words:
            if word in self._news:
                self._news[word].come()
        loop.remove_reader(self._pipe)
        loop.call_later(_CALM_S, self._resume)

    def _resume(self) -> None:
        if self._pipe >= 0:
            asyncio.get_running_loop().add_reader(self._pipe, self._on_wake)


class _News:
    """How often a task's shim has said something, and who has heard of which time."""

    def __init__(self) -> None:
        self.count = 0
        self.woken = asyncio.Event()
        self.seen: weakref.WeakKeyDictionary[asyncio.Task[object], int] = weakref.WeakKeyDictionary()

    def come(self) -> None:
        """The shim has said something."""
        self.count += 1
        woken, self.woken = self.woken, asyncio.Event()
        woken.set()


def _close(spec: dict[str, list[str]]) -> None:
    """End what a wrapper left behind, without waiting for it."""
    closing, env = spec.get("closing", []), dict(pair.split("=", 1) for pair in spec["env"])
    program = shutil.which(closing[0], path=env.get("PATH")) if closing else None
    if program is None:
        return
    run = partial(
        subprocess.run,
        [program, *closing[1:]],
        env=env,
        timeout=_CLOSING_S,
        check=False,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    threading.Thread(target=run, daemon=True).start()


def _read_exit(place: Path) -> Exit | None:
    try:
        return msgspec.json.decode((place / "exit").read_bytes().strip(), type=Exit)
    except FileNotFoundError:
        return None


def _trouble(status: dict[str, str]) -> str:
    lost = int(status.get("lost") or 0)
    if status.get("full") == "1":
        return f"disk full: {format_bytes(lost)} of log lost so far"
    return ""
