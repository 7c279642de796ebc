"""dstack's `resources`: `gpu: A100:80GB:8`, `memory: 16GB..`, `cpu: arm:4..8`."""

from __future__ import annotations

from typing import Any

from nexus.launch.core.jobfile import amounts
from nexus.launch.core.jobfile.draft import Draft, items_of, native
from nexus.launch.core.jobfile.skypilot_resources import glob
from nexus.launch.core.jobfile.tree import Fields, Scalar, Tree

_VENDORS = ("nvidia", "amd", "google", "tpu", "intel", "tenstorrent", "tt")
_ARCHITECTURES = ("x86", "arm")
_GPU_NOT_USED = {
    "vendor": "name the accelerators: any vendor's will do",
    "total_memory": "say the memory of each (`memory`) and how many (`count`)",
    "compute_capability": "name the accelerators that have it",
}
_GPU = ("name", "count", "memory", *_GPU_NOT_USED)
_KNOWN = ("cpu", "memory", "gpu", "disk", "shm_size")


def resources(draft: Draft, tree: Tree | None, path: str, into: Fields) -> None:
    """Fill `into` with what a machine must have, in native words. Raises FileError."""
    if tree is None:
        return
    said = draft.only(tree, path, _KNOWN)
    draft.unused(said, f"{path}.", {"shm_size": "a container has its engine's, a process the machine's"})
    if "cpu" in said:
        _cpu(draft, said["cpu"], f"{path}.cpu", into)
    if "memory" in said:
        draft.put("memory", amounts.size_of(draft, said["memory"], f"{path}.memory"), said["memory"], into)
    if "disk" in said:
        disk, where = said["disk"], f"{path}.disk"
        if isinstance(disk, Fields) and "size" in disk.entries:
            disk, where = draft.only(disk, where, ("size",)).get("size", disk), f"{where}.size"
        draft.put("disk", amounts.size_of(draft, disk, where), disk, into)
    if "gpu" in said:
        _gpu(draft, said["gpu"], f"{path}.gpu", into)


def _cpu(draft: Draft, tree: Tree, path: str, into: Fields) -> None:
    number: Tree | None = tree
    if isinstance(tree, Fields) and not tree.entries.keys() & {"min", "max"}:
        said = draft.only(tree, path, ("arch", "count"))
        draft.unused(said, f"{path}.", {"arch": "machines of any architecture are taken"})
        number = said.get("count")
    elif isinstance(tree, Scalar):
        words = tree.text.replace(" ", "").split(":")
        for word in words:
            if word.lower() in _ARCHITECTURES:
                draft.warn(tree, f"{path}: {word} is not chosen: machines of any architecture are taken")
        rest = ":".join(word for word in words if word.lower() not in _ARCHITECTURES)
        number = Scalar(rest, rest, tree.place) if rest else None
    if number is not None:
        draft.put("cpu", amounts.count_of(draft, number, path), number, into)


def _gpu(draft: Draft, tree: Tree, path: str, into: Fields) -> None:
    said = draft.only(tree, path, _GPU) if isinstance(tree, Fields) else _words(draft, tree, path)
    draft.unused(said, f"{path}.", _GPU_NOT_USED)
    gpu: dict[str, Any] = {"count": _count(draft, said.get("count"), f"{path}.count")}
    if "name" in said:
        names = [draft.text(item, f"{path}.name").strip() for item in items_of(said["name"])]
        gpu["name"] = [glob(name.removeprefix("tpu-")) for name in names]
    if "memory" in said:
        gpu["memory"] = amounts.size_of(draft, said["memory"], f"{path}.memory")
    draft.put("gpu", gpu, tree, into)


def _words(draft: Draft, tree: Tree, path: str) -> dict[str, Tree]:
    """`nvidia:A100,H100:40GB..:2`, in any order: what a word is, its letters say."""
    said: dict[str, Tree] = {}
    for word in draft.text(tree, path).replace(" ", "").split(":"):
        key = _meaning(word)
        if key in said or not word or (key == "name" and not all(word.split(","))):
            raise draft.needs(tree, path, "an accelerator", "Write A100, 24GB.., A100:2, or A100,H100:80GB:8.")
        said[key] = native(word.split(",") if key == "name" else word, tree)
    return said


def _meaning(word: str) -> str:
    """Which key a word stands for."""
    if word.lower() in _VENDORS:
        return "vendor"
    if word[:1].isalpha():
        return "name"
    return "memory" if any(letter.isalpha() for letter in word) else "count"


def _count(draft: Draft, tree: Tree | None, path: str) -> int:
    """The least of a range; a job of ours has one number."""
    if tree is None:
        return 1
    low, _, high = amounts.count_of(draft, tree, path).partition("..")
    if "." in low or "." in high:
        raise draft.needs(tree, path, "a whole number")
    if high and high != low:
        draft.warn(tree, f"{path}: of {low or 0} to {high}, {int(low or 0)} is asked for")
    return int(low or 0)
