"""The process of a task, its group, and everything else that it started."""

from __future__ import annotations

import errno
import os
import time


class Job:
    """The process, its group, and everything else that it started."""

    def __init__(self, spec: dict[str, list[str]], *, adopts: bool) -> None:
        self._adopts = adopts
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
        env = dict(pair.split("=", 1) for pair in spec["env"])
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
        """To the whole group. Its leader is not reaped before the end, so the number cannot be another's."""
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

    def reap(self) -> tuple[int | None, int | None]:
        """End every process of the job that is left; (exit code, signal) of the leader."""
        if self.pid == 0:
            return self.failure_code, None
        self.signal(9)
        for _ in range(50):
            left = self._left()
            if not left:
                break
            for pid in left:
                try:
                    os.kill(pid, 9)
                except (ProcessLookupError, PermissionError):
                    continue
            time.sleep(0.01)
            for pid in left:
                _bury(pid)
        _, status = os.waitpid(self.pid, 0)
        if os.WIFSIGNALED(status):
            return None, os.WTERMSIG(status)
        return os.WEXITSTATUS(status), None

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
