"""Settings: one table, read once, from `<home>/config.toml`, then from `NEXUS_*`. The reference page comes from it."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from nexus.kernel.errors import FileError, UsageError
from nexus.kernel.units import parse_bytes, parse_seconds


def _setting(default: Any, says: str, unit: str = "") -> Any:
    return field(default=default, metadata={"help": says, "unit": unit})


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What a server can be told. Every field is also the variable `NEXUS_<FIELD>`."""

    home: Path = _setting(Path("~/.nexus"), "The folder that holds everything this machine keeps.")
    host: str = _setting("127.0.0.1", "The address the server listens on.")
    port: int = _setting(7717, "The port of the API and the pages.")
    public_url: str = _setting("", "The server's URL for machines that it starts elsewhere; empty: host and port.")
    gateway_port: int = _setting(7718, "The port of the gateway, where endpoints answer.")
    database: str = _setting("", "sqlite:///path or postgresql://...; empty: a SQLite file in the home.")
    blobs: str = _setting("", "A folder, or s3://bucket/prefix; empty: a folder in the home.")
    heartbeat: float = _setting(10.0, "How often an agent reports when nothing happens.", "seconds")
    lease: float = _setting(900.0, "How long a silent machine keeps its tasks before they are lost.", "seconds")
    upload_limit: int = _setting(20_000_000_000, "The largest single upload.", "bytes")
    submit_rate: float = _setting(500.0, "How many runs a second one token may submit in the long run; 0: no bound.")
    hosts: str = _setting(
        "", "Names, with commas, by which browsers may call this server beside its own and addresses."
    )
    plain_http: bool = _setting(False, "Whether others may reach the server without TLS: the network is trusted.")
    keep_events: float = _setting(365 * 86400.0, "How old events, the audit trail, get; 0: for ever.", "seconds")
    agent: bool = _setting(True, "Whether `nexus up` also runs an agent for this machine.")

    @property
    def url(self) -> str:
        """Where this machine reaches its server."""
        host = "127.0.0.1" if self.host in {"0.0.0.0", "::"} else self.host  # noqa: S104 (compared, not bound)
        return f"http://[{host}]:{self.port}" if ":" in host else f"http://{host}:{self.port}"

    @property
    def reached_at(self) -> str:
        """Where other machines reach it."""
        return self.public_url.rstrip("/") or self.url

    @property
    def database_url(self) -> str:
        """The database, with the default filled in."""
        return self.database or f"sqlite:///{self.home / 'nexus.db'}"

    @property
    def blobs_url(self) -> str:
        """The blobs, with the default filled in."""
        return self.blobs or str(self.home / "blobs")


def load_settings(environ: Mapping[str, str] | None = None, **overrides: Any) -> Settings:
    """Defaults, then the file, then the environment, then what the command line said. Raises UsageError, FileError."""
    environ = os.environ if environ is None else environ
    home = Path(overrides.get("home") or environ.get("NEXUS_HOME") or Settings().home).expanduser().absolute()
    values: dict[str, Any] = _read_file(home / "config.toml")
    for known in fields(Settings):
        variable = "NEXUS_" + known.name.upper()
        if variable in environ:
            values[known.name] = environ[variable]
    values |= {name: value for name, value in overrides.items() if value is not None}
    values["home"] = home
    return Settings(**{name: _convert(name, value) for name, value in values.items()})


def as_environment(settings: Settings) -> dict[str, str]:
    """The variables that give another process these settings."""
    return {f"NEXUS_{known.name.upper()}": str(getattr(settings, known.name)) for known in fields(Settings)}


def _read_file(path: Path) -> dict[str, Any]:
    try:
        values = tomllib.loads(path.read_text())
    except FileNotFoundError:
        return {}
    except tomllib.TOMLDecodeError as error:
        raise FileError(f"{error}", hint="It is TOML: name = value.", file=str(path)) from error
    unknown = sorted(set(values) - {known.name for known in fields(Settings)})
    if unknown:
        names = ", ".join(known.name for known in fields(Settings))
        raise FileError(f"no setting is called {unknown[0]!r}", hint=f"There are: {names}.", file=str(path))
    return values


def _convert(name: str, value: Any) -> Any:
    known = next(one for one in fields(Settings) if one.name == name)
    unit = known.metadata["unit"]
    if unit:
        return parse_seconds(value) if unit == "seconds" else parse_bytes(value)
    kind: type[Any] = type(getattr(Settings(), name))
    if kind is bool and isinstance(value, str):
        if value.lower() not in {"0", "1", "true", "false", "yes", "no"}:
            raise UsageError(f"the setting {name} is {value!r}; it takes true or false", hint="Write true or false.")
        return value.lower() in {"1", "true", "yes"}
    try:
        return kind(value)
    except ValueError as error:
        takes = {int: "a whole number", float: "a number"}.get(kind, kind.__name__)
        hint = f"Set NEXUS_{name.upper()}, or `{name}` in config.toml, to {takes}."
        raise UsageError(f"the setting {name} is {value!r}; it takes {takes}", hint=hint) from error
