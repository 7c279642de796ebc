"""dstack's service: replicas behind an endpoint."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nexus.launch.core.jobfile import dstack_parts as parts
from nexus.launch.core.jobfile.draft import Draft, items_of
from nexus.launch.core.jobfile.tree import Fields, Items, Scalar, Tree, value_of

_FIXED = "the number of replicas is fixed: `--set deploy.replicas=N`"
_NOT_USED = {
    "gateway": "the server is the gateway of its endpoints",
    "model": "clients call the model by the endpoint's name",
    "https": "put a proxy that speaks TLS in front of the server",
    "scaling": _FIXED,
    "rate_limits": "`deploy.max_inflight` of a native file bounds requests",
}
_MUST_BE_TRUE = {
    "strip_prefix": "a replica sees the path behind its endpoint's",
    "auth": "whoever calls an endpoint needs a token",
}
KEYS = ("port", "replicas", "groups", "probes", *_NOT_USED, *_MUST_BE_TRUE)
_PROBE_NOT_USED = {
    "headers": "a replica is asked without headers",
    "body": "a replica is ready when a GET answers 2xx",
    "timeout": "a question without an answer is asked again",
    "ready_after": "one answer is enough",
    "until_ready": "a replica is asked until it is ready",
}
_PROBE = ("type", "url", "method", "interval", *_PROBE_NOT_USED)


def service(draft: Draft, said: Mapping[str, Tree]) -> None:
    """A deployment that runs the service's own commands."""
    groups = said.get("groups") or (said["replicas"] if isinstance(said.get("replicas"), Items) else None)
    if groups is not None:
        hint = "Write a service for each group."
        raise draft.error(groups, "groups of replicas cannot be had in one deployment", hint, "groups")
    plain = {"https": True, "gateway": True}
    draft.unused({key: tree for key, tree in said.items() if plain.get(key) != value_of(tree)}, "", _NOT_USED)
    for key, reason in _MUST_BE_TRUE.items():
        if key in said and value_of(said[key]) is not True:
            draft.warn(said[key], f"{key}: false is not used: {reason}")
    parts.commands(draft, said, "commands")
    section: dict[str, Any] = {"engine": "command"}
    if "replicas" in said:
        section["replicas"] = _replicas(draft, said["replicas"])
    draft.put("kind", "deploy", said["type"])
    draft.put("deploy", section, said.get("replicas", said["type"]))
    if "port" not in said:
        raise draft.error(draft.tree, "`port` is needed", "Add `port:`, the port that a replica listens on.", "port")
    port = Items(said["port"].place, [_inner(said["port"])])
    draft.put("ports", parts.ports(draft, port, "port"), said["port"])
    _probes(draft, said.get("probes"))


def _inner(tree: Tree) -> Tree:
    """The port in the job: dstack has no use for the other one of `80:8000` either."""
    if isinstance(tree, Scalar):
        text = tree.text.rpartition(":")[2]
        return Scalar(text, text, tree.place)
    return tree


def _replicas(draft: Draft, tree: Tree) -> int:
    """The least of a range, but one."""
    said = draft.only(tree, "replicas", ("min", "max")) if isinstance(tree, Fields) else {}
    text = draft.text(said["min"], "replicas.min") if "min" in said else "" if said else draft.text(tree, "replicas")
    low, dots, _ = text.partition("..")
    if not (low or dots or said) or not (low or "0").isdecimal() or len(low) > 6:
        raise draft.needs(tree, "replicas", "a number, or a range such as 1..4")
    if dots or said:
        draft.warn(tree, f"replicas: {max(1, int(low or 0))} of them: {_FIXED}")
    elif int(low) == 0:
        draft.warn(tree, "replicas: one is kept, since an endpoint does not start from none")
    return max(1, int(low or 0))


def _probes(draft: Draft, tree: Tree | None) -> None:
    """The first probe says when a replica is ready."""
    for index, entry in enumerate(items_of(tree) if tree is not None else ()):
        path = f"probes.{index}"
        said = draft.only(entry, path, _PROBE)
        if index:
            draft.warn(entry, f"{path} is not used: a replica is asked one question")
            continue
        draft.unused(said, f"{path}.", _PROBE_NOT_USED)
        if "type" in said:
            draft.choice(said["type"], f"{path}.type", {"http": "http"})
        method = said.get("method")
        if method is not None and draft.text(method, f"{path}.method").lower() != "get":
            draft.warn(method, f"{path}.method is not used: a replica is ready when a GET answers 2xx")
        health: dict[str, Any] = {"path": said["url"]} if "url" in said else {}
        if "interval" in said:
            health["every"] = parts.duration(draft, said["interval"], f"{path}.interval") or 0.5
        draft.put("health", health, entry)
