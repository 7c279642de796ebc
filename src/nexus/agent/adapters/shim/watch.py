"""Watch one job from its start to its end."""

from __future__ import annotations

import os
import select
import signal

from .formats import decode_spec, encode_spec, encode_status, escape, now_s, start_ticks
from .job import Job, oom_kills
from .limits import Limits
from .masks import Masks, without_secrets
from .place import CLAIMED_EXIT, reserve_exit, take_claim
from .spool import LineReader, LogSpool

_DRAIN_S = 1.0  # for what children of an ended process still write
_DRAIN_KILLED_S = 0.1


class Shim:
    """Watches one job from its start to its end."""

    def __init__(self, spec: dict[str, list[str]], claim_fd: int, *, adopts: bool) -> None:
        self._spec = spec
        self._claim_fd = claim_fd
        self._place = spec["place"][0]
        self._grace_s = float(spec["grace_s"][0])
        self._wake_fd = -1
        self._wake_word = spec["wake"][1].encode()
        self._lease_until = self._read_lease()
        self._killed_for = ""
        self._kill_at = 0.0
        self._drain_until = 0.0
        self._said = b""
        self._shim_start = start_ticks(os.getpid())
        self._job_start = ""
        self._ooms = oom_kills()
        self._reserved = reserve_exit(self._place)
        self._spool = LogSpool(spec["log"][0], int(spec["cap_b"][0]))
        self._limits = Limits(int(spec["memory_b"][0]), spec["groups"], spec["own_groups"])
        self._limits.enter()
        self._job = Job(spec, adopts=adopts)
        self._limits.leave()
        self._job_start = start_ticks(self._job.pid)
        timeout_s = float(spec["timeout_s"][0])
        self._timeout_at = now_s() + timeout_s if timeout_s > 0 else float("inf")
        out, err = spec["letters"]
        masks = Masks(spec["secrets"])
        self._readers = {
            fd: LineReader(fd, letter.encode(), self._spool, masks)
            for fd, letter in zip(self._job.pipes, (out, err), strict=True)
        }

    def run(self) -> None:
        """Until the job has ended."""
        if self._spec["secrets"]:
            self._forget_secrets()
        self._say_status()
        wakeup = self._listen()
        poll = select.poll()
        for fd in [*self._readers, wakeup]:
            poll.register(fd, select.POLLIN)
        while not self._is_over():
            for fd, _ in poll.poll(self._pause_ms()):
                reader = self._readers.get(fd)
                if reader is None:
                    self._take_signals(wakeup)
                elif not reader.read():
                    poll.unregister(fd)
                    os.close(fd)
                    del self._readers[fd]
            self._flush_quiet()
            self._keep_time()
            self._say_status()
            self._wake_agent()
        self._end()

    def _listen(self) -> int:
        read, write = os.pipe()
        for fd in (read, write):
            os.set_blocking(fd, False)
        signal.set_wakeup_fd(write, warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD):
            signal.signal(number, lambda *_: None)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        self._term = {int(signal.SIGTERM), int(signal.SIGINT)}
        return read

    def _take_signals(self, wakeup: int) -> None:
        if self._term.intersection(os.read(wakeup, 4096)):
            self._kill("stop")
        self._job.bury_orphans()

    def _kill(self, why: str, kill_at: float = 0.0) -> None:
        """TERM now, KILL after the grace, or at `kill_at`. The first reason counts."""
        if self._killed_for or self._drain_until:
            return
        self._killed_for = why
        self._kill_at = kill_at or now_s() + self._grace_s
        self._job.signal(15)

    def _keep_time(self) -> None:
        now = now_s()
        if now >= self._timeout_at:
            self._kill("timeout")
        if now >= self._lease_until:
            self._lease_until = self._read_lease()
            if now >= self._lease_until:
                self._kill("lease")
                self._lease_until = float("inf")
        if now >= self._limits.look_at and self._limits.is_over(self._job.roots):
            self._kill("memory", now)
        if self._kill_at and now >= self._kill_at:
            self._job.signal(9)
            self._kill_at = now + 1.0
        if not self._drain_until and self._job.has_ended():
            self._drain_until = now + (_DRAIN_KILLED_S if self._killed_for else _DRAIN_S)

    def _is_over(self) -> bool:
        return bool(self._drain_until) and (not self._readers or now_s() >= self._drain_until)

    def _pause_ms(self) -> int:
        times = [self._lease_until, self._timeout_at, self._kill_at, self._drain_until, self._limits.look_at]
        times += [reader.flush_at for reader in self._readers.values()]
        soonest = min([moment for moment in times if moment] or [float("inf")])
        return min(3_600_000, max(0, int((soonest - now_s()) * 1000) + 1)) if soonest < float("inf") else 3_600_000

    def _flush_quiet(self) -> None:
        for reader in self._readers.values():
            if reader.flush_at and now_s() >= reader.flush_at:
                reader.flush(whole=False)

    def _read_lease(self) -> float:
        try:
            with open(self._spec["lease"][0], "rb") as file:  # noqa: PTH123
                return float(file.read())
        except FileNotFoundError:
            return 0.001  # long ago: the agent removed the task
        except ValueError:
            return now_s() + 0.05  # caught while it was written: look again

    def _forget_secrets(self) -> None:
        """The job has its variables; nobody needs them on the disk any more. They stay there if that is full."""
        draft = os.path.join(self._place, "spec.new")  # noqa: PTH118
        try:
            fd = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            try:
                written = encode_spec(without_secrets(self._spec))
                is_whole = os.write(fd, written) == len(written)
            finally:
                os.close(fd)
            if is_whole:
                os.replace(draft, os.path.join(self._place, "spec"))  # noqa: PTH105, PTH118
        except OSError:
            return

    def _say_status(self) -> None:
        said = encode_status(
            shim=os.getpid(),
            shim_start=self._shim_start,
            job=self._job.pid,
            job_start=self._job_start,
            lost=self._spool.lost_in_all_b,
            full=int(self._spool.is_disk_full),
        )
        if said != self._said:
            self._said = said
            os.pwrite(self._claim_fd, said, 0)

    def _wake_agent(self) -> None:
        """A word in the agent's pipe says: look at this task. If no agent is there, it will look when it comes."""
        try:
            if self._wake_fd < 0:
                self._wake_fd = os.open(self._spec["wake"][0], os.O_WRONLY | os.O_NONBLOCK)
            os.write(self._wake_fd, self._wake_word)
        except BlockingIOError:
            return
        except OSError:
            if self._wake_fd >= 0:
                os.close(self._wake_fd)
                self._wake_fd = -1

    def _end(self) -> None:
        code, number = self._job.reap(by_force=bool(self._killed_for))
        for reader in self._readers.values():
            reader.flush(whole=True)
        if self._job.failure:
            self._spool.add(b"n", self._job.failure.encode())
        self._spool.close()
        self._say_status()
        detail = self._job.failure
        if not self._killed_for and (code or number) and self._limits.is_over([]):
            self._killed_for = "memory"
        elif not self._killed_for and number == 9 and oom_kills() > self._ooms:
            self._killed_for, detail = "memory", "the kernel killed for lack of memory at that time"
        self._limits.remove()
        end = {"exit_code": code, "signal": number}
        numbers = ", ".join(f'"{name}": {"null" if value is None else value}' for name, value in end.items())
        text = f'{{{numbers}, "killed_for": "{self._killed_for}", "detail": "{escape(detail)}"}}'
        os.pwrite(self._reserved, text.encode(), 0)
        os.replace(os.path.join(self._place, "exit.tmp"), os.path.join(self._place, "exit"))  # noqa: PTH105, PTH118
        self._wake_agent()


def main(path: str, *, adopts: bool) -> int:
    """Run the job that the spec file describes. `adopts`: orphans of the job become children of this process."""
    with open(path, "rb") as file:  # noqa: PTH123
        spec = decode_spec(file.read())
    claim_fd = take_claim(spec["place"][0])
    if claim_fd < 0:
        return CLAIMED_EXIT
    Shim(spec, claim_fd, adopts=adopts).run()
    return 0
