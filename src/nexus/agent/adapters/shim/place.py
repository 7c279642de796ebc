"""A job's place on disk: who has it, and room for its end."""

from __future__ import annotations

import fcntl
import os

from .formats import encode_status, start_ticks

CLAIMED_EXIT = 75  # the shim's own exit code when another has the place


def take_claim(place: str) -> int:
    """The locked claim file; -1 if somebody was first. It appears locked, so that nobody takes it for a dead one's."""
    draft = os.path.join(place, f"claim.{os.getpid()}")  # noqa: PTH118
    fd = os.open(draft, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
    fcntl.flock(fd, fcntl.LOCK_EX)
    os.write(
        fd, encode_status(shim=os.getpid(), shim_start=start_ticks(os.getpid()), job=0, job_start="", lost=0, full=0)
    )
    try:
        os.link(draft, os.path.join(place, "claim"))  # noqa: PTH118
    except FileExistsError:
        return -1
    finally:
        os.unlink(draft)  # noqa: PTH108
    return fd


def reserve_exit(place: str) -> int:
    """Room on the disk for the end, taken while there is some."""
    fd = os.open(os.path.join(place, "exit.tmp"), os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)  # noqa: PTH118
    os.write(fd, b" " * 1500)
    return fd
