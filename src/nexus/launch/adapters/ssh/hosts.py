"""A fleet's hosts, as a file lists them."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from nexus.kernel.errors import UsageError
from nexus.kernel.ids import to_name

HOST_KEYS = {
    "host": "its address, or its name in ~/.ssh/config",
    "name": "what the node is called; else as the host",
    "port": "where its ssh listens, else 22",
    "user": "as whom to log in",
    "key": "a private key's file on the server's machine; else ssh's own, and the agent's",
    "jump": "through which host: user@host:port, several with commas",
    "python": "which Python there, 3.11 or newer; else the first that is found",
    "folder": "where Nexus keeps its files there, else ~/.nexus/fleet",
    "address": "by which other machines of its network reach its tasks, else what it finds itself",
    "labels": "what jobs may ask for",
    "price": "what it costs per hour",
    "region": "where it stands",
    "network": "hosts that name the same are close to each other",
}
_TEXTS = frozenset(HOST_KEYS) - {"labels", "price", "port"}
FLEET_KEYS = {
    "hosts": "the hosts, each a name or a mapping",
    "known_hosts": "a file of host keys beside ~/.ssh/known_hosts",
    "trust_new_hosts": "accept the key of a host that is not known yet, and hold it to that key from then on",
}


class Host(msgspec.Struct, frozen=True, kw_only=True):
    """One host."""

    name: str
    host: str
    port: int | None = None
    user: str = ""
    key: str = ""
    jump: str = ""
    python: str = ""
    folder: str = "~/.nexus/fleet"
    address: str = ""
    labels: dict[str, str] = msgspec.field(default_factory=dict)
    price: float = 0.0
    region: str = ""
    network: str = ""


class HostList(msgspec.Struct, frozen=True, kw_only=True):
    """A fleet's settings."""

    hosts: tuple[Host, ...]
    known_hosts: str = ""
    trust_new_hosts: bool = False

    def find(self, name: str) -> Host | None:
        """The host of this name, if it is still in the list."""
        return next((host for host in self.hosts if host.name == name), None)


def read_hosts(settings: Mapping[str, Any]) -> HostList:
    """What a fleet's settings say: `hosts`, and what every host has unless it says otherwise. Raises UsageError."""
    _know(settings, {**FLEET_KEYS, **HOST_KEYS}, "an ssh fleet")
    shared = {key: value for key, value in settings.items() if key in HOST_KEYS}
    listed = settings.get("hosts")
    if not isinstance(listed, Sequence) or isinstance(listed, str) or not listed:
        raise UsageError("an ssh fleet needs hosts", hint="For example: hosts: [gpu-1.lab, {host: 10.0.0.7, user: ml}]")
    hosts = tuple(_host(one, shared, at) for at, one in enumerate(listed, 1))
    names = [host.name for host in hosts]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise UsageError(f"two hosts are called {twice[0]}", hint="Give each a `name` of its own.")
    trust = settings.get("trust_new_hosts", False)
    known = settings.get("known_hosts", "")
    if not isinstance(trust, bool) or not isinstance(known, str):
        raise UsageError("trust_new_hosts is true or false; known_hosts is the path of a file")
    return HostList(hosts=hosts, known_hosts=known, trust_new_hosts=trust)


def _host(given: Any, shared: Mapping[str, Any], at: int) -> Host:
    one = {"host": given} if isinstance(given, str) else given
    if not isinstance(one, Mapping):
        raise UsageError(f"host {at} is neither a name nor a mapping", hint="Write `- host: 10.0.0.7`.")
    _know(one, HOST_KEYS, f"host {at}")
    labels = {**_labels(shared), **_labels(one)}
    merged = {**shared, **one, "labels": labels}
    if not merged.get("host"):
        raise UsageError(f"host {at} does not say where it is", hint="Write `host: 10.0.0.7`.")
    for key in _TEXTS & merged.keys():
        merged[key] = str(merged[key])
    if "PRIVATE KEY" in merged.get("key", ""):
        raise UsageError(f"host {at}: `key` names a file", hint="A key's own text belongs in no settings.")
    merged["name"] = to_name(merged.get("name") or merged["host"].rpartition("@")[2])
    user, _, host = merged["host"].rpartition("@")
    if user:
        merged |= {"user": one.get("user") or user, "host": host}
    try:
        return msgspec.convert(merged, Host)
    except msgspec.ValidationError as error:
        raise UsageError(f"host {at}: {error}", hint="See the guide: use machines over ssh.") from error


def _labels(of: Mapping[str, Any]) -> dict[str, str]:
    labels = of.get("labels") or {}
    if not isinstance(labels, Mapping):
        raise UsageError("`labels` is a mapping", hint="For example: labels: {site: lab}")
    return {str(name): str(value) for name, value in labels.items()}


def _know(given: Mapping[str, Any], keys: Mapping[str, str], what: str) -> None:
    for key in given:
        if key not in keys:
            near = difflib.get_close_matches(str(key), keys, n=1)
            raise UsageError(
                f"{what} has no {key!r}", hint=f"Did you mean {near[0]}?" if near else f"There are: {', '.join(keys)}."
            )
