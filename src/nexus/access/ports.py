"""What Access needs of the rest of the house, and of the machine."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Protocol

from nexus.access.model import Envelope

InUse = Callable[[str], Awaitable[str]]  # a project -> what still works in it ("2 machines"); empty: nothing
Entropy = Callable[[int], bytes]


class Vault(Protocol):
    """Seals values so that whoever reads the database learns nothing. `about` binds a value to its place."""

    def seal(self, value: bytes, about: str) -> Envelope:
        """The value under a fresh data key, which the newest of the server's keys wraps. Raises UsageError."""
        ...

    def open(self, envelope: Envelope, about: str) -> bytes:
        """The value. Raises NotFoundError when its key is not here, UsageError if it was tampered with."""
        ...

    def rewrap(self, envelope: Envelope, about: str) -> Envelope:
        """The same value and data key, wrapped by the newest key. Raises NotFoundError, UsageError."""
        ...

    def renew(self) -> str:
        """Make a new key, by which everything is wrapped from now on; its name."""
        ...

    def forget(self) -> None:
        """Drop every key but the newest: nothing is wrapped by them any more."""
        ...
