"""What dstack's tasks, services and dev environments share, one function for a key or two."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from posixpath import normpath
from typing import Any

from nexus.kernel.errors import UsageError
from nexus.kernel.ids import to_name
from nexus.kernel.units import parse_seconds
from nexus.launch.core.jobfile.draft import Draft, is_null, items_of
from nexus.launch.core.jobfile.dstack_resources import resources
from nexus.launch.core.jobfile.tree import Fields, Items, Scalar, Tree, value_of

LENIENT = "set +o pipefail\n"  # dstack stops at the first command that fails, but not within a pipe

_PORT = re.compile(r"(?:(\d{1,5}|\*):)?(\d{1,5})")
_SECRET = re.compile(r"\$\{\{\s*secrets\.([A-Za-z_][A-Za-z0-9_]*)\s*\}\}")
_SPOT = {"spot": "only", "on-demand": "never", "auto": "auto"}
_EVENTS: dict[str, list[str]] = {
    "no-capacity": [],  # a run waits for a machine anyway
    "interruption": ["node_lost", "spot_reclaimed"],
    "error": ["exit", "signal", "setup"],
}
_RETRY_S = 3600.0  # dstack's own
_BACKOFF_S = (5.0, 300.0)  # of a native job that does not say
_HOSTFILE = "DSTACK_MPI_HOSTFILE"


def commands(draft: Draft, said: Mapping[str, Tree], key: str) -> None:
    """A script of the commands. Raises FileError if there are none."""
    found = lines(draft, said.get(key), key)
    if not found:
        raise draft.error(draft.tree, "the job says nothing to run", f"Add `{key}:`, even to an `image`.", key)
    draft.put("run", script(draft, said, found), said[key])


def lines(draft: Draft, tree: Tree | None, path: str) -> list[str]:
    """The commands of a list, each of one line or more."""
    if tree is None:
        return []
    found = [draft.text(item, f"{path}.{index}") for index, item in enumerate(items_of(tree)) if not is_null(item)]
    if any(_HOSTFILE in line for line in found):
        draft.warn(tree, f"{_HOSTFILE} is not set: make a hostfile of DSTACK_NODES_IPS")
    return [line.rstrip("\n") for line in found]


def script(draft: Draft, said: Mapping[str, Tree], found: Sequence[str]) -> str:
    """The commands as one script, in the folder and the shell that the file wants."""
    head = [LENIENT.rstrip("\n")]
    folder_ = said.get("working_dir")
    if folder_ is not None:
        text = draft.text(folder_, "working_dir")
        if text.startswith(("/", "~")) and "image" not in said:
            draft.warn(folder_, f"working_dir {text} is not used: without an `image` the workspace is the only folder")
        elif normpath(text) != ".":
            head.append(f"cd -- {shlex.quote(text)}")
    shell = said.get("shell")
    if shell is not None and draft.text(shell, "shell") not in {"sh", "bash", "/bin/sh", "/bin/bash"}:
        draft.warn(shell, "shell is not used: scripts are run by bash, or by sh where there is none")
    return "\n".join([*head, *found]) + "\n"


def folder(draft: Draft, said: Mapping[str, Tree]) -> None:
    """The image, and the folder that is sent: a local repo, or the file's own folder if `files` lie in it."""
    if "image" in said:
        draft.put("image", draft.text(said["image"], "image"), said["image"])
    draft.put("workspace", None, draft.tree)
    files = said.get("files")
    for index, entry in enumerate(items_of(files) if files is not None else ()):
        _file(draft, entry, f"files.{index}")
    repos = said.get("repos")
    for index, entry in enumerate(items_of(repos) if repos is not None else ()):
        _repo(draft, entry, f"repos.{index}")


def _file(draft: Draft, entry: Tree, path: str) -> None:
    local, target = _mapped(draft, entry, path, ("local_path", "path"))
    inside = not local.startswith(("/", "~")) and normpath(local).split("/")[0] != ".."
    if inside and normpath(local) == normpath(target or local):
        draft.put("workspace", ".", entry)
    else:
        draft.warn(entry, f"{path}: {local} is not put there: files keep the place they have beside the job file")


def _repo(draft: Draft, entry: Tree, path: str) -> None:
    keys = ("local_path", "path", "url", "branch", "hash", "if_exists")
    local, target = _mapped(draft, entry, path, keys)
    said = draft.only(entry, path, keys) if isinstance(entry, Fields) else {}
    reason = "the folder is sent as it is; check out what you want to run"
    draft.unused(said, f"{path}.", dict.fromkeys(("url", "branch", "hash", "if_exists"), reason))
    if "://" in local or "@" in local.split(":")[0]:
        draft.warn(entry, f"{path}: {local} is not cloned: check it out, and name its folder")
    elif local:
        draft.put("workspace", local, entry)
        if target and normpath(target) != ".":
            draft.warn(entry, f"{path}: {target} is not used: the folder is the job's working directory")


def _mapped(draft: Draft, entry: Tree, path: str, keys: Sequence[str]) -> tuple[str, str]:
    """`LOCAL:THERE`, or both by name."""
    if isinstance(entry, Fields):
        said = draft.only(entry, path, keys)
        local, there = (draft.text(said[key], f"{path}.{key}") if key in said else "" for key in keys[:2])
        return local, there
    text = draft.text(entry, path)
    if "://" in text or "@" in text.split(":")[0]:
        return text, ""
    local, _, there = text.partition(":")
    return local, there


def variables(draft: Draft, tree: Tree | None) -> None:
    """A mapping, or a list of `NAME=VALUE` and `NAME`. Secrets by name, since a plan is shown."""
    secrets: list[str] = []
    for name, value, entry in _pairs(draft, tree):
        if value is None:
            draft.warn(entry, f"env.{name} has no value: give it with `--env {name}`, which takes it from here")
            continue
        secret = _SECRET.fullmatch(value.strip())
        if secret and secret[1] == name:
            secrets.append(name)
        elif _SECRET.search(value):
            draft.warn(entry, f"env.{name} is left out: a secret becomes the variable of its own name, by `secrets`")
        else:
            draft.set_env(name, value, entry)
    if secrets and tree is not None:
        draft.put("secrets", secrets, tree)


def _pairs(draft: Draft, tree: Tree | None) -> list[tuple[str, str | None, Tree]]:
    if tree is None:
        return []
    if isinstance(tree, Items):
        texts = [(draft.text(item, f"env.{index}").partition("="), item) for index, item in enumerate(tree.items)]
        return [(name, value if equals else None, item) for (name, equals, value), item in texts]
    entries = draft.mapping(tree, "env").entries
    return [(name, None if is_null(item) else draft.text(item, f"env.{name}"), item) for name, item in entries.items()]


def ports(draft: Draft, tree: Tree, path: str) -> list[dict[str, Any]]:
    """`8080`, `80:8080`, `*:8080`: the port in the job; the first is called `http`."""
    found: dict[int, None] = {}
    for index, item in enumerate(items_of(tree)):
        where = f"{path}.{index}"
        local, inner = "", item
        if isinstance(item, Fields):
            said = draft.only(item, where, ("local_port", "container_port"))
            inner = said.get("container_port", item)
            local = draft.text(said["local_port"], where) if "local_port" in said else ""
        match = _PORT.fullmatch(draft.text(inner, where))
        if match is None or not 0 < int(match[2]) <= 65535:
            raise draft.needs(item, where, "a port", "Write 8080, or 80:8080.")
        local = local or match[1] or ""
        if local not in {"", "*", match[2]}:
            draft.warn(item, f"{where}: port {local} here is not used: a job's ports are those of its machine")
        found[int(match[2])] = None
    return [{"port": port, "name": f"port-{port}" if index else "http"} for index, port in enumerate(found)]


def node_groups(draft: Draft, said: Mapping[str, Tree]) -> None:
    """Groups of nodes are roles, which start together."""
    for key in ("commands", "ports", "nodes", "entrypoint"):
        if key in said:
            raise draft.error(said[key], f"`{key}` and `groups` cannot stand together", "Move it into a group.", key)
    roles: list[dict[str, Any]] = []
    for index, entry in enumerate(items_of(said["groups"])):
        path = f"groups.{index}"
        group = draft.only(entry, path, ("name", "nodes", "resources", "commands", "ports"))
        found = lines(draft, group.get("commands"), f"{path}.commands")
        if not found:
            raise draft.error(entry, f"the group {path} says nothing to run", "Add `commands:`.", f"{path}.commands")
        needs = Fields(entry.place)
        resources(draft, group.get("resources"), f"{path}.resources", needs)
        placed(draft, said, needs)
        role: dict[str, Any] = {
            "name": to_name(draft.text(group["name"], f"{path}.name")) if "name" in group else str(index),
            "count": group.get("nodes", 1),
            "run": script(draft, said, found),
            "gang": True,
            "resources": needs,
        }
        if "ports" in group:
            role["ports"] = ports(draft, group["ports"], f"{path}.ports")
        roles.append(role)
    draft.put("roles", roles, said["groups"])
    draft.put("network", "fast", said["groups"])


def placed(draft: Draft, said: Mapping[str, Tree], into: Fields) -> None:
    """Where a node may be, and whether it may be taken away: on demand unless the file says otherwise."""
    policy = said.get("spot_policy")
    word = "never" if policy is None else draft.choice(policy, "spot_policy", _SPOT)
    draft.put("spot", word, policy or draft.tree, into)
    if "regions" in said:
        names = [draft.text(item, f"regions.{index}") for index, item in enumerate(items_of(said["regions"]))]
        draft.put("region", names, said["regions"], into)


def priority(draft: Draft, tree: Tree) -> None:
    draft.put("priority", tree, tree)


def max_price(draft: Draft, tree: Tree) -> None:
    """A cap for each machine becomes one for all of the run."""
    price, nodes = value_of(tree), draft.native.entries.get("nodes")
    count = value_of(nodes) if nodes is not None else 1
    roles = draft.native.entries.get("roles")
    if isinstance(roles, Items):
        count = sum(number for role in roles.items if isinstance(number := value_of(role)["count"], int))
    whole = price * count if isinstance(price, int | float) and isinstance(count, int) and price is not True else price
    draft.put("max_price", whole, tree, draft.resources)


def max_duration(draft: Draft, tree: Tree) -> None:
    seconds = duration(draft, tree, "max_duration")
    if seconds is not None:
        draft.put("timeout", seconds, tree)


def stop_duration(draft: Draft, tree: Tree) -> None:
    seconds = duration(draft, tree, "stop_duration")
    if seconds is None:
        draft.warn(tree, "stop_duration off is not used: a task that does not stop is killed in the end")
    else:
        draft.put("grace", seconds, tree)


def duration(draft: Draft, tree: Tree, path: str) -> float | None:
    """Seconds in `2h` or `7200`; None if it is `off`. Raises FileError."""
    text = draft.text(tree, path)
    if text in {"off", "false", "-1"}:
        return None
    try:
        return parse_seconds(text)
    except UsageError as error:
        raise draft.needs(tree, path, "a duration", "Write 90s, 2h, 1d or off.") from error


def retry(draft: Draft, tree: Tree) -> None:
    """For a time: here that is as many attempts as have their waits in it."""
    said: dict[str, Tree] = {}
    if not isinstance(tree, Scalar):
        said = draft.only(tree, "retry", ("on_events", "duration"))
    elif not isinstance(tree.value, bool):
        raise draft.needs(tree, "retry", "true, false or a mapping")
    elif not tree.value:
        return
    events = items_of(said["on_events"]) if "on_events" in said else []
    words = [draft.choice(event, f"retry.on_events.{index}", _EVENTS) for index, event in enumerate(events)]
    causes = [cause for group in (words if events else _EVENTS.values()) for cause in group]
    seconds = duration(draft, said["duration"], "retry.duration") if "duration" in said else _RETRY_S
    if not causes and "duration" in said:
        draft.warn(said["duration"], "retry.duration is not used: a run waits for a machine until it is stopped")
    if causes:
        draft.put("retry", {"max": attempts(seconds or _RETRY_S), "on": list(dict.fromkeys(causes))}, tree)


def attempts(seconds: float) -> int:
    """How many attempts have waited for `seconds`, all of their waits together."""
    wait, waited, count = _BACKOFF_S[0], 0.0, 0
    while count < 1000 and waited + wait <= seconds:
        waited, wait, count = waited + wait, min(wait * 2, _BACKOFF_S[1]), count + 1
    return max(1, count)
