"""FedML's `job.yaml`, as its `fedml launch` reads it (docs.fedml.ai, launch/yaml), turned into native words.

Every key is honoured, or named in a warning. Top-level mappings that FedML does not know (`data_args`, `model_args`,
any name) become variables `FEDML_ENV_<MAPPING>_<KEY>`, which is how FedML hands them to the job.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable

from nexus.kernel.ids import to_name
from nexus.launch.core.jobfile import fedml_parts as parts
from nexus.launch.core.jobfile.fedml_parts import FedMLDraft
from nexus.launch.core.jobfile.problems import shown, unknown
from nexus.launch.core.jobfile.translation import Dialect, Translation
from nexus.launch.core.jobfile.tree import Fields, Scalar, Tree, value_of

KINDS = {
    "train": "train",
    "deploy": "deploy",
    "serve": "deploy",
    "federate": "federate",
    "dev-environment": "session",
}
SUBTYPES = {  # what each means for a plan: a network, or nothing
    "general_training": "",
    "single_machine_training": "",
    "cluster_distributed_training": "fast",
    "cross_cloud_training": "any",
    "cross_silo": "any",
    "simulation": "",
}
_DEVICES = ("web", "smart_phone")
_COUNTS = ("client_num_in_total", "client_num_per_round", "worker_num")


_MARKS = ("job", "bootstrap", "server_job", "job_type", "task_type", "job_subtype", "job_name", "framework_type")
_MARKS_ALSO = (
    "containerize",
    "image_pull_policy",
    "run_api_key",
    "workspace",
    "data_args",
    "model_args",
    "training_params",
)


class FedML:
    """`job`, `bootstrap`, `computing`, `job_type`."""

    marks = frozenset({*_MARKS, *_MARKS_ALSO, *parts.GROUPS})

    def translate(self, trees: list[Fields], file: str) -> list[Translation]:
        return [_translated(tree, file) for tree in trees]


def _translated(tree: Fields, file: str) -> Translation:
    draft = FedMLDraft(tree, file)
    _kind(draft)
    _name_and_workspace(draft)
    _commands(draft)
    for key, part in _PARTS.items():
        if key in tree.entries:
            part(draft, tree.entries[key])
    _variables(draft)
    return draft.done()


def _kind(draft: FedMLDraft) -> None:
    """Without a `job_type` FedML says train; a plain command is the same without a rendezvous."""
    for key in ("job_type", "task_type"):
        said = draft.take(key)
        if said is None:
            continue
        text = said.text if isinstance(said, Scalar) else ""
        if text not in KINDS:
            _, hint = unknown(text, list(KINDS))
            raise draft.error(said, f"there is no {key} {text!r}", hint.replace("Known keys here", "It is one of"), key)
        draft.put("kind", KINDS[text], said)
    subtype = draft.take("job_subtype")
    if subtype is None or not isinstance(subtype, Scalar) or subtype.value is None:
        return
    if subtype.text in SUBTYPES:
        if SUBTYPES[subtype.text]:
            draft.put("network", SUBTYPES[subtype.text], subtype)
    elif subtype.text in _DEVICES:
        draft.warn(subtype, f"job_subtype {subtype.text}: devices are not placed; only the server's side runs")
    else:
        draft.warn(subtype, f"job_subtype {shown(subtype.value)} is not known, and changes nothing")


def _name_and_workspace(draft: FedMLDraft) -> None:
    workspace = draft.take("workspace")
    folder = workspace.text.strip() if isinstance(workspace, Scalar) and workspace.value is not None else ""
    if isinstance(workspace, Scalar):
        draft.put("workspace", folder or None, workspace)
    elif workspace is not None:
        raise draft.error(workspace, f"`workspace` needs text, not {shown(value_of(workspace))}", "", "workspace")
    else:
        draft.put("workspace", None, draft.tree)
    name = draft.take("job_name")
    if isinstance(name, Scalar) and name.value is not None:
        draft.put("name", to_name(name.text), name)
    elif folder.strip("./"):
        draft.put("name", to_name(folder.rstrip("/").rpartition("/")[2]), workspace or draft.tree)


def _commands(draft: FedMLDraft) -> None:
    bootstrap, job, server = draft.script("bootstrap"), draft.script("job"), draft.script("server_job")
    if bootstrap:
        draft.put("setup", bootstrap.text, bootstrap)
    if job:
        draft.put("run", parts.STRICT + job.text, job)
    if server is None:
        _alone(draft)
        return
    if job is None:
        raise draft.error(server, "`server_job` needs a `job` for its clients", "Add `job:`.", "server_job")
    draft.native.entries.pop("run")
    draft.put("kind", "federate", server)
    draft.native.entries["roles"] = draft.listed(
        job,
        {"name": "server", "run": parts.STRICT + server.text, "gang": True, "on_exit": "any", "ports": ["rendezvous"]},
        {"name": "client", "run": parts.STRICT + job.text, "gang": True, "on_exit": "ignore", "count": _clients(draft)},
    )
    draft.native.keys["roles"] = job.place


def _alone(draft: FedMLDraft) -> None:
    """A federated job without a server is one process, such as a simulation."""
    kind = draft.native.entries.get("kind")
    if isinstance(kind, Scalar) and kind.text == "federate":
        draft.put("kind", "command", kind)


def _clients(draft: FedMLDraft) -> int:
    """How many clients: FedML counts the machines that are bound to it; its configuration names say as much."""
    for group in draft.tree.entries.values():
        for key in _COUNTS if isinstance(group, Fields) else ():
            count = group.entries.get(key) if isinstance(group, Fields) else None
            if isinstance(count, Scalar) and isinstance(count.value, int) and 0 < count.value <= 10_000:
                return count.value
    draft.warnings.append("no `client_num_in_total` says how many clients there are: one; `--set roles.1.count=N`")
    return 1


def _variables(draft: FedMLDraft) -> None:
    """Whatever mapping is left, as FedML flattens it."""
    draft.set_env("FEDML_CURRENT_VERSION", "release", draft.tree)
    for key in list(draft.tree.entries):
        entry = draft.take(key)
        if key == "dialect" or entry is None:
            continue
        if isinstance(entry, Fields):
            _flatten(draft, f"FEDML_ENV_{key}", entry)
        elif not (isinstance(entry, Scalar) and entry.value is None):
            _, hint = unknown(key, sorted(FedML.marks))
            near = f" {hint}" if hint.startswith("Did") else ""
            draft.warn(entry, f"`{key}` means nothing to FedML or to Nexus, and is left out.{near}")


def _flatten(draft: FedMLDraft, prefix: str, tree: Fields) -> None:
    for key, entry in tree.entries.items():
        name = f"{prefix}_{key}"
        if isinstance(entry, Fields):
            _flatten(draft, name, entry)
        else:
            text = _text(entry)
            draft.set_env(re.sub(r"[^A-Z0-9_]", "_", name.upper()), text, entry)


def _text(tree: Tree) -> str:
    if isinstance(tree, Scalar):
        return "" if tree.value is None else tree.text
    return json.dumps(value_of(tree), default=str)


_PARTS: dict[str, Callable[[FedMLDraft, Tree], None]] = {
    "computing": parts.computing,
    "docker": parts.docker,
    "containerize": parts.containerize,
    "serving_args": parts.serving,
    "environment_args": parts.environment,
    "expert_mode": parts.expert,
    "fedml_env": parts.project,
    "framework_type": parts.framework,
    "image_pull_policy": parts.pull_policy,
    "job_args": parts.stored_job,
    "run_api_key": parts.api_key,
}

DIALECT: Dialect = FedML()
