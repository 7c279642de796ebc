"""The process of a task, its group, and everything else that it started."""

from __future__ import annotations

import errno
import os
import time

from .limits import descendants

_TERM = 15
_LAST_SIGNAL = 64
_CLOSING_S = 20.0  # for a container's engine to end what it started


class Job:
    """The process, its group, and everything else that it started."""

    def __init__(self, spec: dict[str, list[str]], *, adopts: bool) -> None:
        self._adopts = adopts
        self._is_wrapped = spec["wrapped"] == ["yes"]
        self._is_shielded = spec["shields"] == ["yes"]
        self._closing = spec["closing"]
        self._env = dict(pair.split("=", 1) for pair in spec["env"])
        self._marker = ("\0" + spec["marker"][0] + "\0").encode()
        self.pid = 0
        self.failure = ""
        self.failure_code = 0
        self.status: int | None = None
        out_read, out_write = os.pipe()
        err_read, err_write = os.pipe()
        try:
            self._spawn(spec, out_write, err_write)
        except OSError as error:
            self.failure = f"cannot start {spec['argv'][0]}: {error.strerror}"
            self.failure_code = 127 if error.errno == errno.ENOENT else 126
        os.close(out_write)
        os.close(err_write)
        self.pipes = (out_read, err_read)

    def _spawn(self, spec: dict[str, list[str]], out: int, err: int) -> None:
        argv = spec["argv"]
        env = self._env
        os.chdir(spec["cwd"][0])
        program = find_program(argv[0], env.get("PATH", os.defpath))
        actions = [
            (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0),
            (os.POSIX_SPAWN_DUP2, out, 1),
            (os.POSIX_SPAWN_DUP2, err, 2),
        ]
        sigpipe, sigxfsz = 13, 25  # which Python ignores, and a child would inherit
        self.pid = os.posix_spawn(
            program, argv, env, file_actions=actions, setsid=True, setsigmask=(), setsigdef=(sigpipe, sigxfsz)
        )

    def signal(self, number: int) -> None:
        """To the whole group. Its leader is not reaped before the end, so the number cannot be another's.

        A sandbox's own process dies of a TERM, and all within with it: so that goes to those within.
        """
        within = descendants([self.pid])[1:] if self._is_shielded and number == _TERM else []
        for pid in within:
            _kill(pid, number)
        if within:
            return
        try:
            os.killpg(self.pid, number)
        except (ProcessLookupError, PermissionError):
            return

    def has_ended(self) -> bool:
        """Whether the leader has. It stays a zombie until `reap`."""
        if self.pid == 0:
            return True
        return os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOWAIT | os.WNOHANG) is not None

    def bury_orphans(self) -> None:
        """Wait for what the job left behind and what has ended since, but not for the leader."""
        while self._adopts and self.pid:
            try:
                ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOWAIT | os.WNOHANG)
            except ChildProcessError:
                return
            if ended is None or ended.si_pid == self.pid:
                return
            _bury(ended.si_pid)

    @property
    def roots(self) -> list[int]:
        """The processes of the job whose parents are not of it."""
        return [self.pid, *(self._left() if self._adopts else [])] if self.pid else []

    def reap(self, *, by_force: bool) -> tuple[int | None, int | None]:
        """End every process of the job that is left; (exit code, signal) of the leader."""
        if self.pid == 0:
            return self.failure_code, None
        if self._closing and (by_force or self._was_killed()):
            self._close()
        self.signal(9)
        for _ in range(50):
            left = self._left()
            if not left:
                break
            for pid in left:
                _kill(pid, 9)
            time.sleep(0.01)
            for pid in left:
                _bury(pid)
        _, status = os.waitpid(self.pid, 0)
        if os.WIFSIGNALED(status):
            return None, os.WTERMSIG(status)
        code = os.WEXITSTATUS(status)
        is_signal = self._is_wrapped and 128 < code <= 128 + _LAST_SIGNAL
        return (None, code - 128) if is_signal else (code, None)

    def _was_killed(self) -> bool:
        ended = os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOWAIT | os.WNOHANG)
        return ended is None or ended.si_code != os.CLD_EXITED

    def _close(self) -> None:
        """What the leader stands for may live on without it: have it ended by who started it."""
        try:
            program = find_program(self._closing[0], self._env.get("PATH", os.defpath))
            null = [(os.POSIX_SPAWN_OPEN, fd, "/dev/null", os.O_RDWR, 0) for fd in (0, 1, 2)]
            pid = os.posix_spawn(program, self._closing, self._env, file_actions=null, setsid=True, setsigmask=())
        except OSError:
            return
        for _ in range(int(_CLOSING_S / 0.02)):
            if os.waitpid(pid, os.WNOHANG)[0]:
                return
            time.sleep(0.02)
        _kill(pid, 9)
        os.waitpid(pid, 0)

    def _left(self) -> list[int]:
        """Our children, for orphans become ours; else processes of the job's session or with the job's mark."""
        if self._adopts:
            try:
                with open(f"/proc/self/task/{os.getpid()}/children", "rb") as file:  # noqa: PTH123
                    return [pid for pid in map(int, file.read().split()) if pid != self.pid]
            except OSError:
                pass  # a kernel without it
        if not os.path.isdir("/proc/self"):  # noqa: PTH112
            return []
        found = []
        for name in os.listdir("/proc"):  # noqa: PTH208
            pid = int(name) if name.isdigit() else 0
            if pid not in {0, self.pid, os.getpid()} and self._is_ours(pid):
                found.append(pid)
        return found

    def _is_ours(self, pid: int) -> bool:
        try:
            with open(f"/proc/{pid}/stat", "rb") as file:  # noqa: PTH123
                words = file.read().rpartition(b")")[2].split()
            if words[0] in {b"Z", b"X"}:
                return False
            if int(words[3]) == self.pid:
                return True
            with open(f"/proc/{pid}/environ", "rb") as file:  # noqa: PTH123
                return self._marker in b"\0" + file.read()
        except (OSError, IndexError, ValueError):
            return False


def _kill(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
    except (ProcessLookupError, PermissionError):
        return


def _bury(pid: int) -> None:
    """A zombie of ours goes; nothing if it lives, or is another's."""
    try:
        os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        return


def find_program(name: str, path: str) -> str:
    """Where a program is. Raises FileNotFoundError, PermissionError."""
    if "/" in name:
        return name
    for folder in path.split(":"):
        candidate = os.path.join(folder or ".", name)  # noqa: PTH118
        if os.access(candidate, os.X_OK) and not os.path.isdir(candidate):  # noqa: PTH112
            return candidate
    raise FileNotFoundError(errno.ENOENT, "no such program in PATH", name)


def oom_kills() -> int:
    """How often this machine's kernel has killed for lack of memory."""
    try:
        with open("/proc/vmstat", "rb") as file:  # noqa: PTH123
            return int(file.read().partition(b"\noom_kill ")[2].split(b"\n")[0] or 0)
    except OSError:
        return 0
