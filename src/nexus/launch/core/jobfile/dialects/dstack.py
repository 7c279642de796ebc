"""dstack's task, service and dev-environment files, as `dstack apply` reads them, turned into native words.

Every key is honoured, or named in a warning; one that dstack does not have is an error. What its files say of fleets,
volumes and gateways is no job, and is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from nexus.kernel.ids import to_name
from nexus.launch.core.jobfile import dstack_parts as parts
from nexus.launch.core.jobfile import dstack_service
from nexus.launch.core.jobfile.draft import Draft
from nexus.launch.core.jobfile.dstack_resources import resources
from nexus.launch.core.jobfile.translation import Dialect, Translation
from nexus.launch.core.jobfile.tree import Fields, Scalar, Tree, value_of

_TYPES = ("task", "service", "dev-environment")
_NO_JOBS = {
    "fleet": "`nexus nodes` lists machines; each joins with `nexus agent`",
    "volume": "Machines bring their disks; give data as `inputs` of a native file",
    "gateway": "The server is the gateway of its endpoints",
    "preset": "Write what it presets into the job's file",
}
_NEAR = "the cheapest machine that fits is taken, wherever it is"
_CONTAINER = "the node's container engine decides how a container is run"
_ENVIRONMENT = "the job's environment is made by `setup` of a native file, or is that of `image`"
_FLEETS = "machines belong to the server, not to a run"
_NOT_USED = {
    "backends": _NEAR,
    "backend_options": _NEAR,
    "availability_zones": _NEAR,
    "instance_types": _NEAR,
    "reservation": _NEAR,
    "fleets": _FLEETS,
    "instances": _FLEETS,
    "creation_policy": _FLEETS,
    "idle_duration": "a run holds its machines no longer than it runs",
    "utilization_policy": "an idle run is stopped by who sees it: `nexus metrics RUN`",
    "startup_order": "all nodes start together",
    "stop_criteria": "a run ends when all its nodes have ended",
    "schedule": "start it from cron, with `nexus launch --detach`",
    "tags": "they are tags of cloud machines",
    "user": _CONTAINER,
    "privileged": _CONTAINER,
    "entrypoint": _CONTAINER,
    "docker": _CONTAINER,
    "registry_auth": "log the node's container engine in to its registry",
    "python": _ENVIRONMENT,
    "nvcc": _ENVIRONMENT,
    "single_branch": "nothing is cloned",
    "volumes": "nodes mount nothing; give data as `inputs` of a native file",
    "dstack": "every task has NEXUS_API_URL and a token of its own",
    "home_dir": "it means nothing to dstack either",
}
_DEFAULTS = {"startup_order": "any", "stop_criteria": "all-done", "creation_policy": "reuse-or-create"}
_USED = (
    *("type", "name", "image", "working_dir", "env", "shell", "resources", "priority", "repos", "files", "setup"),
    *("ports", "regions", "spot_policy", "retry", "max_duration", "stop_duration", "max_price"),
)
_BASE = (*_USED, *_NOT_USED)
_TASK = ("nodes", "groups", "commands")
_DEV = ("ide", "version", "init", "inactivity_duration")
KEYS: dict[str, tuple[str, ...]] = {
    "task": (*_BASE, *_TASK),
    "service": tuple(key for key in (*_BASE, "commands", *dstack_service.KEYS) if key != "ports"),
    "dev-environment": tuple(key for key in (*_BASE, *_DEV) if key != "entrypoint"),
}


class DStack:
    """`type: task`, `commands`, `spot_policy`."""

    marks = frozenset({key for keys in KEYS.values() for key in keys})

    def translate(self, trees: list[Fields], file: str) -> list[Translation]:
        return [_translated(Draft(tree, file)) for tree in trees]


DIALECT: Dialect = DStack()


def _translated(draft: Draft) -> Translation:
    kind = _type(draft)
    _of_this_type(draft, kind)
    said = draft.only(draft.tree, "", (*KEYS[kind], "dialect"))
    default = {key for key, word in _DEFAULTS.items() if key in said and value_of(said[key]) == word}
    draft.unused({key: tree for key, tree in said.items() if key not in default}, "", _NOT_USED)
    if "name" in said:
        draft.put("name", to_name(draft.text(said["name"], "name")), said["name"])
    parts.folder(draft, said)
    parts.variables(draft, said.get("env"))
    draft.set_env(
        "DSTACK_RUN_NAME", draft.text(said["name"], "name") if "name" in said else "", said.get("name", draft.tree)
    )
    if kind != "dev-environment":
        draft.unused(said, "", {"setup": "dstack does not run it either: put it into `commands`"})
    _KINDS[kind](draft, said)
    resources(draft, said.get("resources"), "resources", draft.resources)
    for key, part in _PARTS.items():
        if key in said:
            part(draft, said[key])
    parts.placed(draft, said, draft.resources)
    return draft.done()


def _type(draft: Draft) -> str:
    tree = draft.tree.entries.get("type")
    if tree is None:
        raise draft.error(draft.tree, "`type` is needed", f"It is one of: {', '.join(_TYPES)}.", "type")
    kind = draft.text(tree, "type")
    if kind in _NO_JOBS:
        raise draft.error(tree, f"a {kind} is no job", f"{_NO_JOBS[kind]}.", "type")
    return str(draft.choice(tree, "type", {known: known for known in _TYPES}))


def _of_this_type(draft: Draft, kind: str) -> None:
    """A key that only other types have is told apart from one that none has."""
    for key, place in draft.tree.keys.items():
        owners = [f"a {other}" for other in _TYPES if key in KEYS[other]]
        if owners and key not in KEYS[kind]:
            hint = f"{' and '.join(owners).capitalize()} may have it."
            raise draft.error(Scalar(key, key, place), f"a {kind} has no `{key}`", hint, key)


def _task(draft: Draft, said: Mapping[str, Tree]) -> None:
    if "groups" in said:
        parts.node_groups(draft, said)
        return
    parts.commands(draft, said, "commands")
    if "ports" in said:
        draft.put("ports", parts.ports(draft, said["ports"], "ports"), said["ports"])
    nodes = said.get("nodes")
    if nodes is not None and value_of(nodes) != 1:
        draft.put("nodes", nodes, nodes)
        draft.put("network", "fast", nodes)


def _dev_environment(draft: Draft, said: Mapping[str, Tree]) -> None:
    """A session that prepares itself and stays, until it is stopped."""
    draft.put("kind", "session", said["type"])
    reason = "no editor is put there; log in to the machine with your own"
    draft.unused(said, "", {"ide": reason, "version": reason})
    inactive = said.get("inactivity_duration")
    idle_s = parts.duration(draft, inactive, "inactivity_duration") if inactive is not None else None
    draft.put("idle_stop", idle_s or 0, inactive or said["type"])
    lines = [*parts.lines(draft, said.get("setup"), "setup"), *parts.lines(draft, said.get("init"), "init")]
    draft.put("run", parts.script(draft, said, [*lines, "exec sleep infinity"]), said.get("init", said["type"]))
    if "ports" in said:
        draft.put("ports", parts.ports(draft, said["ports"], "ports"), said["ports"])


_KINDS: dict[str, Callable[[Draft, Mapping[str, Tree]], None]] = {
    "task": _task,
    "service": dstack_service.service,
    "dev-environment": _dev_environment,
}
_PARTS: dict[str, Callable[[Draft, Tree], None]] = {
    "priority": parts.priority,
    "retry": parts.retry,
    "max_duration": parts.max_duration,
    "stop_duration": parts.stop_duration,
    "max_price": parts.max_price,
}
