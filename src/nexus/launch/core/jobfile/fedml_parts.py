"""The groups of keys in FedML's `job.yaml`, one function each."""

from __future__ import annotations

import shlex
from typing import Any

from nexus.kernel.ids import to_name
from nexus.launch.core.jobfile.draft import Draft, native
from nexus.launch.core.jobfile.problems import shown, unknown
from nexus.launch.core.jobfile.tree import Fields, Scalar, Tree, value_of

STRICT = "set -e\n"  # FedML's entry script stops at the first command that fails

GROUPS = ("fedml_env", "computing", "docker", "job_args", "serving_args", "environment_args", "expert_mode")
_COMMAND = ("executable_interpreter", "executable_file_folder", "executable_file", "executable_args")
_PIECES = (*_COMMAND, "executable_conf_option", "executable_conf_file_folder", "executable_conf_file")


class FedMLDraft(Draft):
    """What is left of FedML's tree becomes variables; a key that FedML does not know in a group is no error there."""

    def script(self, key: str) -> Scalar | None:
        """A script: text, or the POSIX form where there is one for each system."""
        said = self.take(key)
        if isinstance(said, Fields):
            known = ("run_on_posix", "run_on_windows")
            for other in said.entries.keys() - set(known):
                message, hint = unknown(other, known)
                raise self.error(said, f"`{key}`: {message}", hint, key)
            if "run_on_windows" in said.entries:
                self.warn(said, f"{key}.run_on_windows is not used: nodes run the POSIX form")
            said = said.entries.get("run_on_posix")
        if said is None or (isinstance(said, Scalar) and not said.text.strip()):
            return None
        if not isinstance(said, Scalar):
            raise self.error(said, f"`{key}` needs text, not {shown(value_of(said))}", "Write `|` and a script.", key)
        return said

    def group(self, tree: Tree, key: str, known: tuple[str, ...]) -> dict[str, Tree]:
        """The entries of a group of keys; others are named in a warning."""
        if isinstance(tree, Scalar) and tree.value is None:
            return {}
        if not isinstance(tree, Fields):
            raise self.error(tree, f"`{key}` needs a mapping, not {shown(value_of(tree))}", "", key)
        for other, entry in tree.entries.items():
            if other not in known:
                _, hint = unknown(other, known)
                self.warn(entry, f"{key}.{other} is not known, and is left out. {hint}")
        set_ = {name: entry for name, entry in tree.entries.items() if name in known}
        return {name: entry for name, entry in set_.items() if not (isinstance(entry, Scalar) and entry.value is None)}


def computing(draft: FedMLDraft, tree: Tree) -> None:
    """Accelerators and a price cap. FedML counts accelerators over all machines: here they are on one."""
    draft.take("computing")
    known = ("minimum_num_gpus", "maximum_cost_per_hour", "allow_cross_cloud_resources", "device_type", "resource_type")
    group = draft.group(tree, "computing", known)
    cost, across, device = (group.get(name) for name in known[1:4])
    if cost is not None:
        draft.put("max_price", value_of(cost), cost, draft.resources)
    if isinstance(across, Scalar) and across.value is False:
        draft.put("network", "fast", across)
    count, kind = group.get("minimum_num_gpus"), group.get("resource_type")
    if isinstance(device, Scalar) and device.text.upper() == "CPU":
        if count is not None and value_of(count):
            draft.warn(device, "computing.device_type is CPU, so minimum_num_gpus is left out")
        return
    if device is not None and value_of(device) not in {"GPU", "gpu", "hybrid"}:
        draft.warn(device, f"computing.device_type {shown(value_of(device))} is not known; GPU is meant")
    if count is not None and value_of(count) == 0 and kind is not None:
        draft.warn(kind, "computing.resource_type is left out: minimum_num_gpus is 0")
    elif (count is not None and value_of(count) != 0) or kind is not None:
        gpu: dict[str, Any] = {"count": 1 if count is None else count} | ({} if kind is None else {"name": kind})
        draft.put("gpu", gpu, count or kind or tree, draft.resources)


def docker(draft: FedMLDraft, tree: Tree) -> None:
    """A container image; registries are the node's business."""
    draft.take("docker")
    group = draft.group(tree, "docker", ("image", "username", "password", "registry", "ports"))
    contained = draft.tree.entries.get("containerize")
    if "image" in group and not (isinstance(contained, Scalar) and contained.value is False):
        draft.put("image", group["image"], group["image"])
    if "ports" in group:
        numbers = value_of(group["ports"])
        ports = numbers if isinstance(numbers, list) else [numbers]
        named = [{"port": port, "name": "http" if index == 0 else f"port-{port}"} for index, port in enumerate(ports)]
        draft.put("ports", named, group["ports"])
    for name in ("username", "password", "registry"):
        if name in group:
            draft.warn(group[name], f"docker.{name} is not used: log the node's container engine in to its registry")


def containerize(draft: FedMLDraft, tree: Tree) -> None:
    """Nexus runs in a container if there is an image."""
    draft.take("containerize")
    if isinstance(tree, Scalar) and tree.value is True and "image" not in draft.native.entries:
        draft.warn(tree, "containerize without docker.image is not used: the job runs in its own environment")


def serving(draft: FedMLDraft, tree: Tree) -> None:
    """What is deployed, under which name."""
    draft.take("serving_args")
    known = ("model_name", "model_id", "model_version", "model_storage_url", "endpoint_name", "endpoint_id")
    group = draft.group(tree, "serving_args", known)
    section: dict[str, Any] = {}
    if "model_name" in group:
        version = group.get("model_version")
        name = to_name(str(value_of(group["model_name"])))
        at = f"@{value_of(version)}" if version is not None else ""
        section["model"] = native(f"model://{name}{at}", group["model_name"])
    if "endpoint_name" in group:
        section["endpoint"] = native(to_name(str(value_of(group["endpoint_name"]))), group["endpoint_name"])
    for name in ("model_id", "model_storage_url", "endpoint_id"):
        if name in group:
            draft.warn(group[name], f"serving_args.{name} is not used: models are found by name in the registry")
    kind = draft.native.entries.get("kind")
    if not (isinstance(kind, Scalar) and kind.text == "deploy"):
        draft.warn(tree, "serving_args is left out: only `job_type: deploy` serves a model")
        return
    if "run" in draft.native.entries:
        section["engine"] = "command"
    if section:
        draft.put("deploy", section, tree)


def environment(draft: FedMLDraft, tree: Tree) -> None:
    """A script in the workspace that prepares the environment, unless `bootstrap` does."""
    draft.take("environment_args")
    script = draft.group(tree, "environment_args", ("bootstrap",)).get("bootstrap")
    if script is None:
        return
    if "setup" in draft.native.entries:
        draft.warn(script, "environment_args.bootstrap is left out: `bootstrap` prepares the environment")
    else:
        draft.put("setup", f"bash {shlex.quote(str(value_of(script)))}\n", script)


def expert(draft: FedMLDraft, tree: Tree) -> None:
    """A command in pieces: interpreter, file, configuration and arguments."""
    draft.take("expert_mode")
    group = draft.group(tree, "expert_mode", (*_PIECES, "data_location", "bootstrap"))
    said = {name: str(value_of(entry)) for name, entry in group.items()}
    if "data_location" in group:
        draft.warn(group["data_location"], "expert_mode.data_location is not used: give data as `inputs`")
    if "bootstrap" in group and "setup" not in draft.native.entries:
        draft.put("setup", f"bash {shlex.quote(said['bootstrap'])}\n", group["bootstrap"])
    if "run" in draft.native.entries or "executable_file" not in group:
        for name in _PIECES:
            if name in group:
                draft.warn(group[name], f"expert_mode.{name} is left out: `job` says what to run")
        return
    words = shlex.split(said.get("executable_interpreter", ""))
    words.append(_joined(said.get("executable_file_folder", ""), said["executable_file"]))
    if "executable_conf_file" in said:
        words += shlex.split(said.get("executable_conf_option", ""))
        words.append(_joined(said.get("executable_conf_file_folder", ""), said["executable_conf_file"]))
    command = shlex.join(words) + (f" {said['executable_args']}" if "executable_args" in said else "")
    draft.put("run", STRICT + command, group["executable_file"])


def _joined(folder: str, file: str) -> str:
    return f"{folder.rstrip('/')}/{file}" if folder else file


def project(draft: FedMLDraft, tree: Tree) -> None:
    """The project that FedML files a run under."""
    draft.take("fedml_env")
    for name, entry in draft.group(tree, "fedml_env", ("project_name", "federate_project_name")).items():
        draft.warn(entry, f"fedml_env.{name} is not used: a run belongs to the project of your token")


def framework(draft: FedMLDraft, tree: Tree) -> None:
    """Nothing depends on it."""
    draft.take("framework_type")
    if isinstance(tree, Scalar) and tree.value not in {None, "general"}:
        draft.warn(tree, "framework_type changes nothing: every framework is prepared by `bootstrap`")


def pull_policy(draft: FedMLDraft, tree: Tree) -> None:
    """Engines decide."""
    draft.take("image_pull_policy")
    draft.warn(tree, "image_pull_policy is not used: the node's container engine decides")


def stored_job(draft: FedMLDraft, tree: Tree) -> None:
    """FedML's stored jobs live on its servers."""
    draft.take("job_args")
    for name, entry in draft.group(tree, "job_args", ("job_id", "config_id")).items():
        draft.warn(entry, f"job_args.{name} is not used: FedML's stored jobs are not here; `nexus restart RUN` is")


def api_key(draft: FedMLDraft, tree: Tree) -> None:
    """A secret in a file would be shown with the plan."""
    draft.take("run_api_key")
    draft.warn(tree, "run_api_key is left out, since a plan is shown: every task has its own token in NEXUS_TOKEN")
