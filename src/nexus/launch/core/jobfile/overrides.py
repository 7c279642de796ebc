"""`--set resources.gpu.count=2`: one value of a job file, given on the command line."""

from __future__ import annotations

from dataclasses import replace

from nexus.kernel.errors import FileError, UsageError
from nexus.launch.core.jobfile.tree import Fields, Items, Place, Scalar, Tree, read_trees


def override(tree: Fields, text: str) -> None:
    """Apply `path=value` to the tree; the value is YAML. Raises UsageError, FileError."""
    path, equals, value = text.partition("=")
    steps = path.strip().split(".")
    if not equals or not all(steps):
        raise UsageError(f"--set takes PATH=VALUE, not {text!r}", hint="Example: --set resources.gpu.count=2")
    source = Place(0, 0, f"--set {text}")
    _put(tree, steps, _value(value, source), source)


def _value(text: str, source: Place) -> Tree:
    try:
        trees = read_trees(text, source.source)
    except FileError as error:
        details = {key: value for key, value in error.details.items() if key not in {"file", "line", "column"}}
        raise FileError(error.message, hint=error.hint, file=source.source, **details) from error
    if len(trees) > 1:
        raise FileError("--set takes one value", hint="Remove the `---`.", file=source.source)
    return _moved(trees[0], source) if trees else Scalar(text, None, source)


def _moved(tree: Tree, source: Place) -> Tree:
    if isinstance(tree, Scalar):
        return replace(tree, place=source)
    if isinstance(tree, Items):
        return Items(source, [_moved(item, source) for item in tree.items])
    entries = {key: _moved(entry, source) for key, entry in tree.entries.items()}
    return Fields(source, entries, dict.fromkeys(entries, source))


def _put(tree: Fields, steps: list[str], value: Tree, source: Place) -> None:
    here: Tree = tree
    for index, step in enumerate(steps):
        last = index == len(steps) - 1
        if isinstance(here, Items):
            here = _in_list(here, steps[:index], step, value if last else None)
        elif isinstance(here, Fields):
            if last:
                here.entries[step], here.keys[step] = value, source
            elif step not in here.entries or _is_null(here.entries[step]):
                here.entries[step], here.keys[step] = Fields(source), source
            here = here.entries[step]
        else:
            path = ".".join(steps[:index])
            raise UsageError(
                f"`{path}` is {here.text!r} here, which has no {step!r}", hint=f"Set it whole: --set {path}=VALUE"
            )


def _in_list(here: Items, path: list[str], step: str, value: Tree | None) -> Tree:
    index = int(step) if step.isascii() and step.isdigit() and len(step) < 8 else -1
    if not 0 <= index < len(here.items):
        raise UsageError(
            f"`{'.'.join(path)}` is a list of {len(here.items)}, which has no {step!r}",
            hint="Number its items from 0, or set the list whole: --set " + ".".join(path) + "='[...]'",
        )
    if value is not None:
        here.items[index] = value
    return here.items[index]


def _is_null(tree: Tree) -> bool:
    return isinstance(tree, Scalar) and tree.value is None
