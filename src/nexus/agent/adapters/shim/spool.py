"""A task's log on disk, and the pipes that fill it."""

from __future__ import annotations

import errno
import os
import time

from .formats import now_s
from .masks import Masks

SEGMENT_B = 4 * 1024 * 1024
FRAME_BODY_B = 64 * 1024 - 17  # kernel.logframes.FRAME_MAX_B, without head and newline
_HEAD_B = 16
_READ_B = 32 * 1024
_QUIET_S = 0.5  # after so long an unfinished line (a progress bar, a prompt) is written as it stands
_ROOM_S = 0.1  # how often a full spool is looked at again


class LogSpool:
    """A task's log on disk: segments named by the byte of the stream at which they begin.

    Bounded: above `cap_b` of segments that the agent has not freed, and while the disk is full, frames are dropped,
    and a frame says so once there is room again. The stream itself is never damaged: a frame that was written in part
    is completed first.
    """

    def __init__(self, folder: str, cap_b: int, segment_b: int = SEGMENT_B) -> None:
        self._folder = folder
        self._cap_b = cap_b
        self._segment_b = segment_b
        os.makedirs(folder, mode=0o700, exist_ok=True)  # noqa: PTH103
        starts = self._starts()
        self._floor = starts[0] if starts else 0
        self._start = starts[-1] if starts else 0
        self._fd = self._open(self._start)
        self.end = self._start + os.fstat(self._fd).st_size
        self._owed = b""
        self._looked = 0.0
        self._why = ""
        self.lost_b = 0  # not yet said in the log
        self.lost_in_all_b = 0
        self.is_disk_full = False

    def close(self) -> None:
        """Say what was lost, if there is room by now, and close."""
        self._settle(closing=True)
        os.close(self._fd)

    def add(self, letter: bytes, body: bytes, *, whole: bool = True) -> None:
        """Lines without their last newline; `whole` is False if the last one goes on."""
        head = b"%013d %s " % (int(time.time() * 1000), letter)  # noqa: TID251 (the shim sees no kernel Clock)
        lines = body.split(b"\n")
        if whole and len(body) <= FRAME_BODY_B:
            self._put(head + (b"\n" + head).join(lines) + b"\n")
            return
        going_on = head[:-2] + letter.upper() + b" "
        for number, line in enumerate(lines):
            rest = line
            while len(rest) > FRAME_BODY_B:
                self._put(going_on + rest[:FRAME_BODY_B] + b"\n")
                rest = rest[FRAME_BODY_B:]
            is_last = number == len(lines) - 1
            self._put((going_on if is_last and not whole else head) + rest + b"\n")

    def _put(self, block: bytes) -> None:
        """Whole frames, all or some."""
        taken = self._write(block) if self._settle() and self._has_room(len(block)) else 0
        self._lose(block[taken:])

    def _settle(self, *, closing: bool = False) -> bool:
        """Complete a frame that was cut, and say what was lost; whether the stream is in order now."""
        if self._owed:
            owed, self._owed = self._owed, b""
            if not self._write(owed):
                self._owed = owed
        if self.lost_b and not self._owed and (closing or self._has_room(self._cap_b // 16)):
            lost, self.lost_b = self.lost_b, 0
            text = f"dropped {lost} bytes of the log: {self._why}".encode()
            if not self._write(b"%013d n %s\n" % (int(time.time() * 1000), text)):  # noqa: TID251
                self.lost_b = lost
        return not self._owed and not self.lost_b

    def _write(self, block: bytes) -> int:
        """How much of it is in the stream for good: whole frames, of which the last may have to be completed."""
        try:
            if self.end - self._start >= self._segment_b:
                fresh = self._open(self.end)
                os.close(self._fd)
                self._fd, self._start = fresh, self.end
            written = os.write(self._fd, block)
        except OSError as error:
            if error.errno not in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}:
                raise
            written = 0
        self.end += written
        self.is_disk_full = written < len(block)
        if not self.is_disk_full:
            return written
        self._why = "the disk was full"
        cut = block.find(b"\n", written - 1) + 1 if written else 0
        self._owed = block[written:cut]
        return cut

    def _lose(self, frames: bytes) -> None:
        size = len(frames) - _HEAD_B * frames.count(b"\n")
        self.lost_b += size
        self.lost_in_all_b += size

    def _has_room(self, size: int) -> bool:
        if self.end + size - self._floor <= self._cap_b:
            return True
        now = now_s()
        if now - self._looked < _ROOM_S:
            return False
        self._looked = now
        self._why = "the spool was full"
        self._floor = self._starts()[0]
        return self.end + size - self._floor <= self._cap_b

    def _starts(self) -> list[int]:
        return segment_starts(self._folder)

    def _open(self, start: int) -> int:
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT
        return os.open(os.path.join(self._folder, f"{start:016d}"), flags, 0o600)  # noqa: PTH118


def segment_starts(folder: str) -> list[int]:
    """The first bytes of the segments that are there, in order."""
    return sorted(int(name) for name in os.listdir(folder) if name.isdigit())  # noqa: PTH208


class LineReader:
    """One pipe of the job, cut into lines, without the job's secrets."""

    def __init__(self, fd: int, letter: bytes, spool: LogSpool, masks: Masks) -> None:
        self.fd = fd
        self._letter = letter
        self._spool = spool
        self._masks = masks
        self._part = b""
        self.flush_at = 0.0  # when the unfinished line is written as it stands; 0: there is none

    def read(self) -> bool:
        """Take what is there; False at the end of the pipe."""
        data = os.read(self.fd, _READ_B)
        if not data:
            self.flush(whole=True)
            return False
        body, newline, part = data.rpartition(b"\n")
        if newline:
            self._spool.add(self._letter, self._masks.hide(self._part + body))
            self._part = part
        else:
            self._part += data
            if len(self._part) > FRAME_BODY_B:
                self._write_part(FRAME_BODY_B)
        self.flush_at = now_s() + _QUIET_S if self._part else 0.0
        return True

    def flush(self, *, whole: bool) -> None:
        """Write the unfinished line; a part of it, if more is to come, without what may become a secret."""
        if not whole:
            self._write_part(len(self._part))
        elif self._part:
            self._spool.add(self._letter, self._masks.hide(self._part))
            self._part = b""
        self.flush_at = 0.0

    def _write_part(self, most: int) -> None:
        part = self._masks.hide(self._part)
        size = min(most, len(part) - self._masks.held(part))
        if size > 0:
            self._spool.add(self._letter, part[:size], whole=False)
        self._part = part[max(size, 0) :]
