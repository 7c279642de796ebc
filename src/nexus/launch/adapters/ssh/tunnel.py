"""The way back: a port on the host's loopback that leads to our server, for as long as a machine works there.

So a server on a laptop, which nobody can reach from outside, uses machines elsewhere and opens nothing to anybody.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from urllib.parse import urlsplit

import structlog

from nexus.kernel.errors import NexusError, UnavailableError
from nexus.launch.adapters.ssh.link import Link

log = structlog.get_logger()
_LONGEST_PAUSE_S = 30.0
_REFUSED = 6  # tries for a port that somebody else has, most often the ghost of our own last connection
_PATIENCE_S = 20.0
_LOOPBACK = ("127.", "localhost", "[::1]", "::1")

Moved = Callable[[str], Awaitable[None]]


def is_hidden(url: str) -> bool:
    """Whether only this machine reaches a server at `url`."""
    return (urlsplit(url).hostname or "").startswith(_LOOPBACK)


def port_of(url: str) -> int:
    """The port of a URL; 0 if there is none to be seen."""
    try:
        return urlsplit(url).port or 0
    except ValueError:
        return 0


class Tunnel:
    """Kept until `close`: when the connection breaks, it is made again, on the same port if the host lets us.

    If it does not, another port is taken, and `moved` tells the agent its new URL.
    """

    def __init__(self, link: Link, server: str, moved: Moved, *, pause_s: float = 0.5) -> None:
        self.link = link
        self._target = (urlsplit(server).hostname or "127.0.0.1", port_of(server) or 80)
        self._moved = moved
        self._pause_s = pause_s  # before the first new try; doubles
        self.port = 0
        self._open = asyncio.Event()
        self._keeping: asyncio.Task[None] | None = None
        self._trouble: NexusError | None = None

    @property
    def url(self) -> str:
        """The server, as the host reaches it."""
        return f"http://127.0.0.1:{self.port}"

    async def open(self, port: int) -> None:
        """See to it that it is open, at `port` unless that is 0, and stays so. Raises UnavailableError and others."""
        if self._keeping is not None and port not in {0, self.port}:
            await self.close()
        if self._keeping is None:
            self.port, self._trouble = port, None
            self._keeping = asyncio.create_task(self._keep(), name=f"tunnel {self.link.host.name}")
        opened = asyncio.create_task(self._open.wait())
        try:
            await asyncio.wait([opened, self._keeping], timeout=_PATIENCE_S, return_when=asyncio.FIRST_COMPLETED)
        finally:
            opened.cancel()
        if not self._open.is_set():
            why = self._trouble or UnavailableError(f"no way back from {self.link.host.name}")
            raise UnavailableError(why.message, hint=why.hint)

    async def close(self) -> None:
        """Let it go."""
        keeping, self._keeping = self._keeping, None
        if keeping is not None:
            keeping.cancel()
            await asyncio.gather(keeping, return_exceptions=True)

    async def _keep(self) -> None:
        pause, refused = self._pause_s, 0
        while True:
            try:
                await self._hold(move=refused >= _REFUSED)
                pause, refused = self._pause_s, 0  # it was open, and broke
            except UnavailableError as error:
                self._trouble = error
                refused += bool(error.details.get("refused"))
            except NexusError as error:
                self._trouble = error
            log.info("ssh.tunnel_broken", host=self.link.host.name, port=self.port, again_in_s=pause)
            await asyncio.sleep(pause)
            pause = min(pause * 2, _LONGEST_PAUSE_S)

    async def _hold(self, *, move: bool) -> None:
        """Open it, and wait until it breaks."""
        import asyncssh

        connection = await self.link.connected()
        wanted = 0 if move else self.port
        try:
            listener = await connection.forward_remote_port("127.0.0.1", wanted, *self._target)
        except asyncssh.ChannelListenError as error:
            why = f"{self.link.host.name} refuses to listen on its own port {wanted or '(any)'} for us"
            hint = "Does its sshd say `AllowTcpForwarding no`? Then give the server a public_url that it can reach."
            raise UnavailableError(why, hint=hint, refused=True) from error
        except (OSError, asyncssh.Error) as error:
            raise UnavailableError(f"{self.link.host.name} was lost: {error}") from error
        try:
            known, self.port = self.port, listener.get_port()
            if move and known:
                await self._moved(self.url)
            self._trouble = None
            self._open.set()
            await connection.wait_closed()
        finally:
            self._open.clear()
            listener.close()
