"""The groups of keys in SkyPilot's task YAML, one function each."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from nexus.launch.core.jobfile.draft import Draft, is_null, items_of
from nexus.launch.core.jobfile.tree import Fields, Items, Scalar, Tree, value_of

MOUNTS = "nodes mount nothing; put files into `workdir`, and give data as `inputs` of a native file"
_PORTS = re.compile(r"(\d{1,5})(?:-(\d{1,5}))?")
_PORTS_MAX = 64  # in one range
_RESTARTS = 1000  # SkyPilot's managed jobs are recovered without end

_STORAGE_OWN = ("_is_sky_managed", "_bucket_sub_path", "_force_delete")
_STORAGE = ("name", "source", "store", "persistent", "mode", "type", "config", *_STORAGE_OWN)
_RECOVERY = ("strategy", "max_restarts_on_errors", "recover_on_exit_codes")
_SERVICE_NOT_USED = {
    "load_balancing_policy": "a request goes to the replica with the fewest in flight",
    "load_balancer": "`deploy.timeout` of a native file bounds a request",
    "tls": "put a proxy that speaks TLS in front of the server",
}
_SERVICE = ("readiness_probe", "replicas", "workers", "replica_policy", "ports", "pool", *_SERVICE_NOT_USED)
_PROBE_NOT_USED = {
    "post_data": "a replica is ready when a GET answers 2xx",
    "headers": "a replica is asked without headers",
    "timeout_seconds": "a question without an answer is asked again",
    "consecutive_failure_threshold_timeout": "a replica is started again when it ends",
}
_PROBE = ("path", "initial_delay_seconds", "endpoint_probe_interval_seconds", *_PROBE_NOT_USED)
_POLICY_NOT_USED = dict.fromkeys(
    (
        *("max_replicas", "num_overprovision", "target_qps_per_replica", "dynamic_ondemand_fallback", "spot_placer"),
        *("base_ondemand_fallback_replicas", "upscale_delay_seconds", "downscale_delay_seconds"),
    ),
    "the number of replicas is fixed: `--set deploy.replicas=N`",
)


def workdir(draft: Draft, tree: Tree | None) -> None:
    """The folder that is sent; without one nothing is."""
    if isinstance(tree, Scalar):
        draft.put("workspace", draft.text(tree, "workdir"), tree)
        return
    draft.put("workspace", None, tree or draft.tree)
    if tree is not None:
        said = draft.only(tree, "workdir", ("url", "ref"))
        draft.unused(said, "workdir.", dict.fromkeys(("url", "ref"), "check it out, and give its folder as `workdir`"))


def variables(draft: Draft, said: Mapping[str, Tree]) -> None:
    """`envs` as they are; secrets by name, since a plan is shown."""
    for name, entry in draft.mapping(said.get("envs", Fields(draft.tree.place)), "envs").entries.items():
        if is_null(entry):
            draft.warn(entry, f"envs.{name} has no value: give it with `--env {name}=VALUE`")
        else:
            draft.set_env(name, draft.text(entry, f"envs.{name}"), entry)
    tree = said.get("secrets")
    if tree is None:
        return
    if isinstance(tree, Items):
        names = [draft.text(item, f"secrets.{index}") for index, item in enumerate(tree.items)]
    else:
        entries = draft.mapping(tree, "secrets").entries
        names = list(entries)
        for name, entry in entries.items():
            if value_of(entry) not in (None, ""):
                draft.warn(
                    entry, f"the value of secrets.{name} is left out, since a plan is shown: keep it on the server"
                )
    draft.put("secrets", names, tree)


def file_mounts(draft: Draft, tree: Tree | None) -> None:
    """Nothing is mounted: each is named."""
    for target, entry in draft.mapping(tree, "file_mounts").entries.items() if tree is not None else ():
        source = (
            draft.only(entry, f"file_mounts.{target}", _STORAGE).get("source") if isinstance(entry, Fields) else entry
        )
        what = source.text if isinstance(source, Scalar) and source.value is not None else "its storage"
        draft.warn(entry, f"file_mounts.{target}: {what} is not there: {MOUNTS}")


def image(draft: Draft, tree: Tree) -> None:
    """A container's image; machines' images are their owners' business."""
    text = tree.text if isinstance(tree, Scalar) else ""
    if text.startswith("docker:") and text != "docker:":
        draft.put("image", text.removeprefix("docker:"), tree)
    else:
        draft.warn(tree, "resources.image_id is not used: only container images are, written docker:NAME")


def ports(draft: Draft, tree: Tree) -> None:
    """Numbers and ranges; the first is called `http`."""
    found: list[tuple[int, Tree]] = []
    for item in items_of(tree):
        match = _PORTS.fullmatch(draft.text(item, "resources.ports").strip())
        low, high = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
        if not 0 < low <= high <= 65535 or high - low >= _PORTS_MAX:
            hint = f"Write 8080, or a range of at most {_PORTS_MAX} such as 8080-8090."
            raise draft.needs(item, "resources.ports", "ports", hint)
        found += [(port, item) for port in range(low, high + 1)]
    listen(draft, dict(found))


def listen(draft: Draft, found: Mapping[int, Tree]) -> None:
    """Add to the ports of the job; the first is called `http`."""
    for port, source in found.items():
        listed = draft.native.entries.setdefault("ports", Items(source.place))
        draft.native.keys.setdefault("ports", source.place)
        name = f"port-{port}" if isinstance(listed, Items) and listed.items else "http"
        if isinstance(listed, Items):
            listed.items += draft.listed(source, {"port": port, "name": name}).items


def priority(draft: Draft, tree: Tree) -> None:
    """-1000..1000 becomes 0..100."""
    said = value_of(tree)
    if not isinstance(said, int) or isinstance(said, bool) or not -1000 <= said <= 1000:
        raise draft.needs(tree, "resources.priority", "a number from -1000 to 1000")
    draft.put("priority", round((said + 1000) / 20), tree)


def network(draft: Draft, tree: Tree) -> None:
    """`best` is the fast one."""
    if draft.choice(tree, "resources.network_tier", {"best": "fast", "standard": "any"}) == "fast":
        draft.put("network", "fast", tree)


def recovery(draft: Draft, tree: Tree) -> None:
    """When a job is started again: with its machine's loss, and with failures if it says so."""
    said = {"strategy": tree} if isinstance(tree, Scalar) else draft.only(tree, "resources.job_recovery", _RECOVERY)
    reason = "a lost job is placed anew on the cheapest machine that fits"
    draft.unused(said, "resources.job_recovery.", {"strategy": reason})
    causes: list[Any] = ["node_lost", "spot_reclaimed"]
    retry: dict[str, Any] = {"max": _RESTARTS}
    if "max_restarts_on_errors" in said and value_of(said["max_restarts_on_errors"]):
        retry["max"] = said["max_restarts_on_errors"]
        causes += ["exit", "signal"]
    if "recover_on_exit_codes" in said:
        codes = items_of(said["recover_on_exit_codes"])
        causes += [f"exit:{draft.text(code, 'resources.job_recovery.recover_on_exit_codes')}" for code in codes]
    draft.put("retry", retry | {"on": causes}, tree)


def service(draft: Draft, tree: Tree, nodes: int) -> None:
    """Replicas of the task's own command behind an endpoint."""
    said = draft.only(tree, "service", _SERVICE)
    if "pool" in said or "workers" in said:
        pool = said.get("pool") or said["workers"]
        raise draft.error(pool, "a pool of workers is no job", "Launch the jobs that it would run.", "service")
    draft.unused(said, "service.", _SERVICE_NOT_USED)
    if nodes > 1:
        draft.warn(tree, f"num_nodes is not used: each replica runs on one machine, not on {nodes}")
        for key in ("nodes", "network"):
            draft.native.entries.pop(key, None)
    section: dict[str, Any] = {"engine": "command"}
    if "replica_policy" in said:
        policy = draft.only(said["replica_policy"], "service.replica_policy", ("min_replicas", *_POLICY_NOT_USED))
        draft.unused(policy, "service.replica_policy.", _POLICY_NOT_USED)
        if "min_replicas" in policy:
            section["replicas"] = _at_least_one(draft, policy["min_replicas"], "service.replica_policy.min_replicas")
    if "replicas" in said:
        section["replicas"] = _at_least_one(draft, said["replicas"], "service.replicas")
    draft.put("kind", "deploy", tree)
    draft.put("deploy", section, tree)
    _service_port(draft, said.get("ports"))
    _probe(draft, said.get("readiness_probe"))


def _at_least_one(draft: Draft, tree: Tree, path: str) -> Tree:
    if value_of(tree) == 0:
        draft.warn(tree, f"{path}: one replica is kept, since an endpoint does not start from none")
        return Scalar("1", 1, tree.place)
    return tree


def _service_port(draft: Draft, tree: Tree | None) -> None:
    """The port that replicas serve on is called `http`."""
    if tree is None:
        return
    port = value_of(tree)
    others = draft.native.entries.pop("ports", None)
    draft.put("ports", [{"port": tree, "name": "http"}], tree)
    for other in others.items if isinstance(others, Items) else ():
        number = value_of(other)["port"]
        if number != port:
            listen(draft, {number: other})


def _probe(draft: Draft, tree: Tree | None) -> None:
    if tree is None:
        return
    if isinstance(tree, Scalar):
        draft.put("health", {"path": tree}, tree)
        return
    said = draft.only(tree, "service.readiness_probe", _PROBE)
    draft.unused(said, "service.readiness_probe.", _PROBE_NOT_USED)
    names = {"path": "path", "initial_delay_seconds": "timeout", "endpoint_probe_interval_seconds": "every"}
    draft.put("health", {native: said[key] for key, native in names.items() if key in said}, tree)
