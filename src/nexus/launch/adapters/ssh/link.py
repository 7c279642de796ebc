"""One host: a connection that is kept, verbs that are run over it, and who may be believed to be that host."""

from __future__ import annotations

import asyncio
import os
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from nexus.kernel.errors import DeniedError, MissingError, UnavailableError, UsageError, from_dict
from nexus.launch.adapters.ssh.hosts import Host
from nexus.launch.adapters.ssh.parcel import parcel

if TYPE_CHECKING:
    import asyncssh

_CONNECT_S = 10.0
_KEEPALIVE_S, _KEEPALIVES = 10.0, 3  # a connection that is silent for this often so long is dead
_NO_PYTHON, _NO_PARCEL, _NO_USE = 43, 44, 45  # exit codes of host.sh
_SCRIPT = (Path(__file__).parent / "host.sh").read_bytes()


@dataclass(frozen=True, slots=True)
class Trust:
    """Whose host keys are believed: those in these files; with `new`, also any of a host that none of them knows."""

    files: tuple[Path, ...]  # read
    pins: Path  # read, and written when a new host is met
    new: bool = False


class Link:
    """The way to one host. It is connected when it is needed, and stays so."""

    def __init__(self, host: Host, trust: Trust) -> None:
        self.host = host
        self.trust = trust
        self._connection: asyncssh.SSHClientConnection | None = None
        self._connecting = asyncio.Lock()

    async def connected(self) -> asyncssh.SSHClientConnection:
        """The connection. Raises UnavailableError, DeniedError, UsageError, MissingError."""
        async with self._connecting:
            if self._connection is None or self._connection.is_closed():
                self._connection = await _connect(self.host, self.trust)
            return self._connection

    async def run(self, verb: str, what: Any) -> Any:
        """Have the host do one verb of `nexus.agent.host`; its answer. Nexus is brought there first if need be.

        Raises UnavailableError, and what the verb itself raised.
        """
        told = msgspec.json.encode(what)
        code, out, err = await self._execute(verb, told)
        if code == _NO_PARCEL:
            code, out, err = await self._execute("unpack", (await asyncio.to_thread(parcel)).content)
            if code == 0:
                code, out, err = await self._execute(verb, told)
        _check(self.host, code, err)
        try:
            answer = msgspec.json.decode(out)
        except msgspec.DecodeError as error:
            words = out.decode(errors="replace")[:200] or _last_line(err)
            hint = "Does its shell's start-up file print something? Non-interactive shells must be silent."
            raise UsageError(f"{self.host.name} answers {words!r}", hint=hint) from error
        if isinstance(answer, dict) and "error" in answer:
            raise from_dict(answer, 500)
        return answer

    async def _execute(self, verb: str, told: bytes) -> tuple[int, bytes, bytes]:
        """The script comes over standard input too, so whatever shell the account has sees one plain line."""
        import asyncssh

        packed = await asyncio.to_thread(parcel)
        words = ("nexus", self.host.folder, packed.digest, verb, self.host.python, packed.requires)
        read_script = f'eval "$(dd bs=1 count={len(_SCRIPT)} 2>/dev/null)"'
        command = " ".join(["exec sh -c", shlex.quote(read_script), *map(shlex.quote, words)])
        connection = await self.connected()
        try:
            done = await connection.run(command, input=_SCRIPT + told, encoding=None)
        except (OSError, asyncssh.Error) as error:
            self.close()
            raise UnavailableError(f"{self.host.name} was lost: {error}") from error
        out, err = done.stdout or b"", done.stderr or b""
        if done.returncode is None or done.exit_status is None:
            raise UnavailableError(f"{self.host.name} was lost while it did something: {_last_line(_bytes(err))}")
        return done.exit_status, _bytes(out), _bytes(err)

    def close(self) -> None:
        """Hang up; the next call connects again."""
        if self._connection is not None:
            self._connection.abort()
            self._connection = None


def _check(host: Host, code: int, err: bytes) -> None:
    if code == 0:
        return
    said = _last_line(err)
    if code == _NO_PYTHON:
        hint = (
            "Install Python 3.11 or uv there (no root is needed), or name a Python with `python:` in the fleet's file."
        )
        raise UsageError(f"{host.name} has {said}", hint=hint)
    if code == _NO_USE:
        hint = (
            f"Nexus needs room in {host.folder}, and the msgspec of its Python: by pip or uv where ours does not fit."
        )
        raise UsageError(f"Nexus cannot be brought to {host.name}: {said}", hint=hint)
    raise UsageError(f"{host.name} ended with {code}: {said}", hint="Log in there by hand, and look.")


def _last_line(text: bytes) -> str:
    lines = text.decode(errors="replace").strip().splitlines()
    return lines[-1][:300] if lines else "it says nothing"


def _bytes(of: Any) -> bytes:
    return of if isinstance(of, bytes) else str(of).encode()


async def load() -> None:
    """Import asyncssh where nobody waits: it takes half a second. Raises MissingError."""

    def bring() -> None:
        import asyncssh  # noqa: F401  (so that later imports find it)

    try:
        await asyncio.to_thread(bring)
    except ImportError as error:
        raise MissingError(
            "ssh is not installed", hint="Install it with the server: pip install 'nexus[ssh]'"
        ) from error


async def _connect(host: Host, trust: Trust) -> asyncssh.SSHClientConnection:
    await load()
    import asyncssh

    known = await asyncio.to_thread(_known_hosts, trust)
    where = f"{host.name} ({host.host})" if host.name != host.host else host.name
    try:
        return await asyncssh.connect(
            host.host,
            **_options(host),
            known_hosts=known,
            client_factory=lambda: _client(trust, known),
            connect_timeout=_CONNECT_S,
            login_timeout=_CONNECT_S,
            keepalive_interval=_KEEPALIVE_S,
            keepalive_count_max=_KEEPALIVES,
        )
    except asyncssh.HostKeyNotVerifiable as error:
        hint = f"If it is the right host, `ssh {host.host}` once as the server's user, or trust_new_hosts."
        raise DeniedError(f"the host key of {where} is not the known one: {error.reason}", hint=hint) from error
    except asyncssh.PermissionDenied as error:
        hint = "Does its key stand there in ~/.ssh/authorized_keys? `user` and `key` in the fleet's file say whose."
        raise DeniedError(f"{where} refuses the login", hint=hint) from error
    except (asyncssh.KeyImportError, asyncssh.ConfigParseError, FileNotFoundError) as error:
        raise UsageError(f"ssh to {where}: {error}", hint="Look at the key's file and at ~/.ssh/config.") from error
    except (OSError, asyncssh.Error) as error:
        raise UnavailableError(f"{where} cannot be reached: {_reason(error)}") from error


def _options(host: Host) -> dict[str, Any]:
    """What the fleet's file says of the way; what it does not say, ~/.ssh/config may."""
    key = str(Path(host.key).expanduser()) if host.key else ""
    said = {"port": host.port, "username": host.user, "client_keys": [key] if key else None, "tunnel": host.jump}
    return {name: value for name, value in said.items() if value}


def _reason(error: BaseException) -> str:
    if isinstance(error, TimeoutError):
        return f"no answer within {_CONNECT_S:.0f} s"
    if isinstance(error, OSError) and error.errno:
        return os.strerror(error.errno).lower()
    return str(error) or type(error).__name__


def _known_hosts(trust: Trust) -> asyncssh.SSHKnownHosts:
    import asyncssh

    texts = []
    for file in (*trust.files, trust.pins):
        try:
            texts.append(file.read_text())
        except FileNotFoundError:
            continue
    try:
        return asyncssh.import_known_hosts("\n".join(texts))
    except ValueError as error:
        raise UsageError(f"a file of host keys cannot be read: {error}", hint=f"Look at {trust.files}.") from error


def _client(trust: Trust, known: asyncssh.SSHKnownHosts) -> asyncssh.SSHClient:
    """Who decides about a host whose key is in no file."""
    import asyncssh

    class Client(asyncssh.SSHClient):
        def validate_host_public_key(self, host: str, addr: str, port: int, key: asyncssh.SSHKey) -> bool:
            if not trust.new or any(known.match(host, addr, port)):
                return False
            pin(trust.pins, host, port, key.export_public_key().decode())
            return True

    return Client()


def pin(file: Path, host: str, port: int, key: str) -> None:
    """Hold a host to this key from now on."""
    name = host if port == 22 else f"[{host}]:{port}"
    kind, words = key.split()[:2]
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with file.open("a") as out:
        out.write(f"{name} {kind} {words}\n")
