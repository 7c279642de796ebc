"""SkyPilot's task YAML, as `sky launch`, `sky jobs launch` and `sky serve up` read it, turned into native words.

Every key is honoured, or named in a warning; one that SkyPilot does not have is an error. Several documents are a
pipeline, each of which waits for the one before, unless the first says `execution: parallel`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from nexus.kernel.ids import to_name
from nexus.launch.core.jobfile import skypilot_parts as parts
from nexus.launch.core.jobfile.draft import Draft
from nexus.launch.core.jobfile.skypilot_resources import TELLING, resources
from nexus.launch.core.jobfile.translation import Dialect, Translation
from nexus.launch.core.jobfile.tree import Fields, Scalar, Tree, value_of

LENIENT = "set +e +o pipefail\n"  # SkyPilot goes on after a command that fails; the last one's exit code counts

_OWN = "it belongs to SkyPilot's own machinery"
_NOT_USED = {
    "file_mounts_mapping": _OWN,
    "volumes": parts.MOUNTS,
    "volume_mounts": parts.MOUNTS,
    "managed_secrets": "name them in `secrets`",
    "event_callback": "follow a run with `nexus events`",
    "inputs": "it guesses a size; `inputs` of a native file name data",
    "outputs": "it guesses a size; `outputs` of a native file keep results",
    "config": _OWN,
    "experimental": _OWN,
    "api_server_access": "every task has NEXUS_API_URL and a token of its own",
    "_metadata": _OWN,
}
_USED = ("name", "workdir", "num_nodes", "resources", "envs", "secrets", "file_mounts", "setup", "run", "service")
KEYS = (*_USED, "pool", *_NOT_USED)
_HEADER = ("name", "execution", "primary_tasks", "termination_delay")
_ORDER = {"serial": False, "parallel": True}
_GROUP = "each task of a job group is a run of its own, which ends by itself"


class SkyPilot:
    """`resources: {accelerators}`, `num_nodes`, `envs`, `file_mounts`."""

    marks = frozenset({*KEYS, "execution", "primary_tasks", *TELLING})

    def translate(self, trees: list[Fields], file: str) -> list[Translation]:
        pipeline = _pipeline(trees, file)
        drafts = [_task(Draft(tree, file)) for tree in pipeline.tasks]
        if len(drafts) > 1:
            _chain(pipeline, drafts)
        drafts[0].warnings[:0] = pipeline.warnings
        return [draft.done() for draft in drafts]


DIALECT: Dialect = SkyPilot()


@dataclass(slots=True)
class _Pipeline:
    """The tasks of a file, and what its first document says of all of them."""

    tasks: list[Fields]
    name: str = "job"
    parallel: bool = False
    warnings: list[str] = field(default_factory=list)


def _pipeline(trees: list[Fields], file: str) -> _Pipeline:
    first = trees[0]
    if len(trees) == 1 or not first.entries.keys() <= {*_HEADER, "dialect"}:
        return _Pipeline(trees)
    header = Draft(first, file)
    said = header.only(first, "", (*_HEADER, "dialect"))
    name = to_name(header.text(said["name"], "name")) if "name" in said else "job"
    parallel = "execution" in said and header.choice(said["execution"], "execution", _ORDER)
    header.unused(said, "", {"primary_tasks": _GROUP, "termination_delay": _GROUP})
    return _Pipeline(trees[1:], name, parallel, header.warnings)


def _chain(pipeline: _Pipeline, drafts: list[Draft]) -> None:
    """Each task waits for the one before."""
    before = ""
    for index, draft in enumerate(drafts, start=1):
        if "name" not in draft.native.entries:
            draft.put("name", f"{pipeline.name}-{index}", draft.tree)
        if before and not pipeline.parallel:
            draft.put("after", [before], draft.tree)
        before = str(value_of(draft.native.entries["name"]))


def _task(draft: Draft) -> Draft:
    said = draft.only(draft.tree, "", (*KEYS, "dialect"))
    if "pool" in said:
        raise draft.error(said["pool"], "a pool of workers is no job", "Launch the jobs that it would run.", "pool")
    draft.unused(said, "", _NOT_USED)
    if "name" in said:
        draft.put("name", to_name(draft.text(said["name"], "name")), said["name"])
    parts.workdir(draft, said.get("workdir"))
    for key in ("setup", "run"):
        if key in said and draft.text(said[key], key).strip():
            draft.put(key, LENIENT + draft.text(said[key], key), said[key])
    nodes = _nodes(draft, said)
    _needs(draft, said, nodes)
    parts.variables(draft, said)
    draft.set_env("SKYPILOT_NUM_NODES", str(nodes), said.get("num_nodes", draft.tree))
    parts.file_mounts(draft, said.get("file_mounts"))
    if "service" in said:
        parts.service(draft, said["service"], nodes)
    return draft


def _nodes(draft: Draft, said: Mapping[str, Tree]) -> int:
    """How many machines; they are always in one place, near each other."""
    tree = said.get("num_nodes")
    if tree is None:
        return 1
    nodes = tree.value if isinstance(tree, Scalar) else None
    if not isinstance(nodes, int) or isinstance(nodes, bool) or not 1 <= nodes <= 10_000:
        raise draft.needs(tree, "num_nodes", "a number of machines")
    if nodes > 1:
        draft.put("nodes", nodes, tree)
        draft.put("network", "fast", tree)
    return nodes


def _needs(draft: Draft, said: Mapping[str, Tree], nodes: int) -> None:
    tree = said.get("resources", Fields(draft.tree.place))
    rest = resources(draft, tree, nodes)
    for key, part in _OF_THE_JOB.items():
        if key in rest:
            part(draft, rest[key])


_OF_THE_JOB = {
    "image_id": parts.image,
    "ports": parts.ports,
    "priority": parts.priority,
    "network_tier": parts.network,
    "job_recovery": parts.recovery,
}
