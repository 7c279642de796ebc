"""SkyPilot's `resources`: what a machine must have, in one form or in several of which any will do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from nexus.launch.core.jobfile import amounts
from nexus.launch.core.jobfile.draft import Draft, is_null, items_of
from nexus.launch.core.jobfile.tree import Fields, Tree, value_of

_PLACES = "the cheapest machine that fits is taken, wherever it is; `resources.region` of a native file narrows that"
_OWN = "it belongs to SkyPilot's own machinery"
NOT_USED = {
    "zone": _PLACES,
    "instance_type": "say what the machine must have (accelerators, cpus, memory)",
    "disk_tier": "every disk will do",
    "local_disk": "every disk will do",
    "ephemeral_storage": "say `disk_size`",
    "volumes": "nodes mount no volumes; give data as `inputs` of a native file",
    "accelerator_args": "nodes are set up by who owns them",
    "labels": "they are tags of cloud machines; nodes bring their own",
    "autostop": "a run holds its machines no longer than it runs",
    "priority_class": "say `priority`",
    "_no_missing_accel_warnings": _OWN,
    "_docker_login_config": "log the node's container engine in to its registry",
    "_is_image_managed": _OWN,
    "_requires_fuse": _OWN,
    "_cluster_config_overrides": _OWN,
}
_NEEDS = (
    "accelerators",
    "gpus",
    "cpus",
    "memory",
    "disk_size",
    "infra",
    "cloud",
    "region",
    "use_spot",
    "max_hourly_cost",
)
_OF_THE_JOB = ("image_id", "ports", "priority", "network_tier", "job_recovery")
KEYS = (*_NEEDS, *_OF_THE_JOB, "any_of", "ordered", *NOT_USED)
_SHARED = {"memory", "region", "labels"}  # keys that native files have too
TELLING = frozenset(f"resources.{key}" for key in KEYS if key not in _SHARED)
_SPOT = {word: meaning for key, meaning in (("true", "only"), ("false", "never")) for word in (key, key.title())}
_OWN_MACHINES = ("k8s", "kubernetes", "ssh", "slurm")


@dataclass(slots=True)
class _Gpu:
    name: str
    count: int
    source: Tree


@dataclass(slots=True)
class _Choice:
    """One form of what is needed, in native words."""

    gpus: list[_Gpu] = field(default_factory=list)
    said: dict[str, tuple[Any, Tree]] = field(default_factory=dict)


def resources(draft: Draft, tree: Tree, nodes: int) -> dict[str, Tree]:
    """Fill the draft's needs; the answer is what remains for the job itself. Raises FileError."""
    base = draft.only(tree, "resources", KEYS)
    forms: list[tuple[str, dict[str, Tree]]] = []
    for key in ("any_of", "ordered"):
        several = base.pop(key, None)
        for index, entry in enumerate(items_of(several) if several is not None else ()):
            path = f"resources.{key}.{index}"
            forms.append((path, draft.only(entry, path, [name for name in KEYS if name not in {"any_of", "ordered"}])))
        if key == "ordered" and several is not None:
            draft.warn(several, "resources.ordered is read as any_of: the cheapest machine that fits comes first")
    draft.unused(base, "resources.", NOT_USED)
    for path, form in forms:
        draft.unused(form, f"{path}.", NOT_USED | dict.fromkeys(_OF_THE_JOB, "say it once, in `resources` itself"))
    for path, said in [("resources", base), *forms]:
        _check(draft, said, path)
    choices = [_choice(draft, base | form, path, nodes) for path, form in forms]
    _put(draft, _joined(draft, choices or [_choice(draft, base, "resources", nodes)]), tree)
    return {key: entry for key, entry in base.items() if key in _OF_THE_JOB}


def _choice(draft: Draft, said: Mapping[str, Tree], path: str, nodes: int) -> _Choice:
    choice = _Choice()
    for key in ("accelerators", "gpus"):  # two names of one thing
        if key in said:
            choice.gpus = _accelerators(draft, said[key], f"{path}.{key}")
    if "cpus" in said:
        choice.said["cpu"] = amounts.count_of(draft, said["cpus"], f"{path}.cpus"), said["cpus"]
    if "memory" in said:
        _memory(draft, choice, said["memory"], f"{path}.memory")
    if "disk_size" in said:
        choice.said["disk"] = amounts.size_of(draft, said["disk_size"], f"{path}.disk_size"), said["disk_size"]
    _region(draft, choice, said, path)
    if "use_spot" in said:
        spot = draft.choice(said["use_spot"], f"{path}.use_spot", _SPOT)
        choice.said["spot"] = spot, said["use_spot"]
    if "max_hourly_cost" in said:
        price = value_of(said["max_hourly_cost"])
        whole = price * nodes if isinstance(price, int | float) and not isinstance(price, bool) else price
        choice.said["max_price"] = whole, said["max_hourly_cost"]
    return choice


def _memory(draft: Draft, choice: _Choice, tree: Tree, path: str) -> None:
    """`16+` in gigabytes, or `2x`: so many for each of the `cpus`."""
    text = draft.text(tree, path).removesuffix("+")
    if not text.endswith("x"):
        choice.said["memory"] = amounts.size_of(draft, tree, path), tree
        return
    cores = amounts.first(str(choice.said["cpu"][0])) if "cpu" in choice.said else 0.0
    if not cores:
        draft.warn(tree, f"{path} is left out: {text} is a multiple of `cpus`, and those are not given")
        return
    found = amounts.size(f"{amounts.first(text) * cores:g}")
    if found is None or amounts.count(text[:-1]) is None:
        raise draft.needs(tree, path, "a size, or a multiple of `cpus` such as 4x")
    choice.said["memory"] = found, tree


def _check(draft: Draft, said: Mapping[str, Tree], path: str) -> None:
    """Refuse what SkyPilot refuses; name the clouds and zones, which are not chosen."""
    for one, other in (("infra", "cloud"), ("infra", "region"), ("infra", "zone"), ("accelerators", "gpus")):
        if one in said and other in said:
            message = f"`{one}` and `{other}` cannot stand together"
            raise draft.error(said[other], message, f"Remove `{other}`.", f"{path}.{other}")
    if "cloud" in said:
        draft.warn(said["cloud"], f"{path}.cloud is not used: {_PLACES}")
    if "infra" in said:
        _, rest = _infra(draft.text(said["infra"], f"{path}.infra"))
        if rest:
            draft.warn(said["infra"], f"{path}.infra: {rest} is not chosen: {_PLACES}")


def _infra(text: str) -> tuple[str, str]:
    """The region of `aws/us-east-1/us-east-1a`, and what else it names; a cluster of one's own has no region."""
    cloud, *rest = text.split("/")
    region = rest.pop(0) if rest and cloud.lower() not in _OWN_MACHINES else ""
    return region.replace("*", ""), "/".join(word for word in (cloud, *rest) if word not in {"*", ""})


def _region(draft: Draft, choice: _Choice, said: Mapping[str, Tree], path: str) -> None:
    """The last word of the two: an alternative may say one where `resources` says the other."""
    for key in ("region", "infra"):
        if key in said:
            text = draft.text(said[key], f"{path}.{key}")
            name = _infra(text)[0] if key == "infra" else text.replace("*", "")
            choice.said |= {"region": ([name], said[key])} if name else {}


def _accelerators(draft: Draft, tree: Tree, path: str) -> list[_Gpu]:
    """`A100:8`, a list of such, or a mapping of names to counts."""
    if isinstance(tree, Fields):
        pairs = [
            (name, "1" if is_null(entry) else draft.text(entry, f"{path}.{name}"), entry)
            for name, entry in tree.entries.items()
        ]
    else:
        texts = [(draft.text(item, path).partition(":"), item) for item in items_of(tree)]
        pairs = [(name, count or "1", item) for (name, _, count), item in texts]
    found = []
    for name, written, source in pairs:
        count = amounts.first(written)
        if amounts.count(written) is None or not name.strip():
            raise draft.needs(source, path, "accelerators", "Write A100, A100:8, or {A100: 8}.")
        if count != int(count):
            draft.warn(source, f"{path}: a part of an accelerator ({written}) is not shared out: whole ones are taken")
        found.append(_Gpu(name.strip(), max(1, int(count + 0.999)) if count else 0, source))
    return found


def glob(name: str) -> str:
    """A short name as a glob over vendors' names: `A100-80GB` is in `NVIDIA A100-SXM4-80GB`."""
    words = name.replace("-", "*")
    return f"{words[:3]}*{words[3:]}" if words[:3].upper() == "RTX" and words[3:4] not in {"", "*"} else words


def _joined(draft: Draft, choices: list[_Choice]) -> _Choice:
    """All forms as one. Accelerators, regions and spot are alternatives; of other differences the first form counts."""
    first, *others = choices
    joined = _Choice(list(first.gpus), dict(first.said))
    for other in others:
        if bool(other.gpus) == bool(first.gpus):
            joined.gpus += other.gpus
        elif other.gpus:
            draft.warn(other.gpus[0].source, "accelerators are left out: the first alternative has none")
        for key, (value, source) in other.said.items():
            if key not in {"region", "spot"} and first.said.get(key, (None, None))[0] != value:
                draft.warn(source, f"{key} {value} is left out: of the alternatives the first one counts")
    joined.said |= _regions(choices) | _spot(choices)
    if not all("region" in choice.said for choice in choices):
        joined.said.pop("region", None)
    return joined


def _regions(choices: list[_Choice]) -> dict[str, tuple[Any, Tree]]:
    said = [choice.said["region"] for choice in choices if "region" in choice.said]
    names = dict.fromkeys(name for regions, _ in said for name in regions)
    return {"region": (list(names), said[0][1])} if said else {}


def _spot(choices: list[_Choice]) -> dict[str, tuple[Any, Tree]]:
    """Not to be had on spot unless it says so; either where one form says yes and another no."""
    said = [choice.said["spot"] for choice in choices if "spot" in choice.said]
    words = {str(word) for word, _ in said} | ({"never"} if len(said) < len(choices) else set())
    return {"spot": ("auto" if len(words) > 1 else words.pop(), said[0][1])} if said else {}


def _put(draft: Draft, choice: _Choice, tree: Tree) -> None:
    for key, (value, source) in choice.said.items():
        draft.put(key, value, source, draft.resources)
    if "spot" not in choice.said:
        draft.put("spot", "never", tree, draft.resources)
    if not choice.gpus:
        return
    count = choice.gpus[0].count
    for gpu in choice.gpus:
        if gpu.count != count:
            draft.warn(gpu.source, f"{gpu.name}:{gpu.count} is left out: alternatives have one count, here {count}")
    names = list(dict.fromkeys(glob(gpu.name) for gpu in choice.gpus if gpu.count == count))
    draft.put("gpu", {"name": names, "count": count}, choice.gpus[0].source, draft.resources)
