"""From the text of a job file to checked jobs."""

from __future__ import annotations

from collections.abc import Sequence
from graphlib import CycleError, TopologicalSorter
from typing import Any

from pydantic import BaseModel, ValidationError

from nexus.kernel.errors import FileError, UsageError
from nexus.kernel.ids import is_id, to_name
from nexus.launch.core.compile import compile_job
from nexus.launch.core.jobfile.dialects import translate
from nexus.launch.core.jobfile.overrides import override
from nexus.launch.core.jobfile.problems import Problem, dotted, file_error, problems_of, unknown
from nexus.launch.core.jobfile.translation import Translation
from nexus.launch.core.jobfile.tree import Fields, Place, Scalar, Tree, place_of, read_trees, value_of
from nexus.launch.core.jobkind import KINDS
from nexus.launch.core.spec import JobSpec

_WRITTEN = frozenset({"env", "labels", "run", "setup", "name", "image"})  # what stays text, as it was written


def read_jobs(text: str, *, file: str = "job.yaml", name: str = "job", overrides: Sequence[str] = ()) -> list[JobSpec]:
    """The jobs of a file, one for each document, in an order in which they can run.

    `file` is what errors call it, `name` what a job without a name is called, `overrides` are `path=value` texts that
    hold for every job. Raises FileError with line, column, field and the nearest right word; UsageError.
    """
    trees = read_trees(text, file)
    if not trees:
        raise FileError("the file says nothing", hint="Start with `run: COMMAND`.", file=file, line=1, column=1)
    translations = translate([_mapping(tree, file) for tree in trees], file)
    specs = [_read(translation, file, name, overrides) for translation in translations]
    return _ordered(specs, [translation.tree for translation in translations], file)


def _mapping(tree: Tree, file: str) -> Fields:
    if not isinstance(tree, Fields):
        raise _error(tree.place, file, "a job file is a mapping of keys to values", "Start with `run: COMMAND`.")
    return tree


def _read(translation: Translation, file: str, name: str, overrides: Sequence[str]) -> JobSpec:
    spec = read_native(translation.tree, file, name=name, overrides=overrides)
    return spec.model_copy(update={"warnings": tuple(translation.warnings)})


def read_native(native: Fields, file: str, *, name: str = "job", overrides: Sequence[str] = ()) -> JobSpec:
    """A job from a tree in native words, which the overrides change. Raises FileError, UsageError."""
    for text in overrides:
        override(native, text)
    kind = _kind(native, file)
    sections = {key: native.entries.pop(key) for key in list(native.entries) if key in KINDS}
    data = {"name": to_name(name), **_data(native), "kind": kind}
    problems: list[Problem] = []
    spec: JobSpec | None = _checked(JobSpec, data, native, (), problems)
    known = {key: _section(key, entry, native, kind, problems) for key, entry in sections.items()}
    if problems or spec is None:
        raise file_error(problems, file)
    chosen = {key: section for key, section in known.items() if section is not None}
    spec = spec.model_copy(update={"sections": chosen})
    native.entries |= sections
    _compiles(spec, native, file)
    return spec


def _kind(tree: Fields, file: str) -> str:
    """What the file says, or the one section it has, or `command`."""
    said = tree.entries.get("kind")
    if said is None:
        found = [key for key in tree.entries if key in KINDS]
        return found[0] if len(found) == 1 else "command"
    text = said.text if isinstance(said, Scalar) else ""
    if text not in KINDS:
        _, hint = unknown(text, KINDS.names())
        raise _error(said.place, file, f"there is no kind {text!r}", hint.replace("Known keys here", "Kinds"), "kind")
    return text


def _data(tree: Fields) -> dict[str, Any]:
    """Plain values for pydantic; what is text by nature stays as it was written."""
    data: dict[str, Any] = {}
    for key, entry in tree.entries.items():
        if key in {"resources", "roles"}:
            parts = entry.items if not isinstance(entry, Fields | Scalar) else [entry]
            values = [_data(part) if isinstance(part, Fields) else value_of(part) for part in parts]
            data[key] = values[0] if isinstance(entry, Fields | Scalar) else values
        else:
            null = isinstance(entry, Scalar) and entry.value is None
            data[key] = value_of(entry, text=key in _WRITTEN and not null)
    return data


def _checked(model: type[BaseModel], data: Any, tree: Fields, prefix: tuple[str, ...], problems: list[Problem]) -> Any:
    try:
        return model.model_validate(data)
    except ValidationError as error:
        problems += problems_of(error, model, tree, prefix)
        return None


def _section(key: str, entry: Tree, tree: Fields, kind: str, problems: list[Problem]) -> BaseModel | None:
    place = tree.keys[key]
    if key != kind:
        message = f"the section `{key}` belongs to `kind: {key}`; this job is of kind {kind}"
        problems.append(Problem(message, f"Remove it, or write `kind: {key}`.", place, key))
        return None
    value = {} if isinstance(entry, Scalar) and entry.value is None else value_of(entry)
    whole = Fields(tree.place, {key: entry}, {key: place})
    section: BaseModel | None = _checked(KINDS.get(key).section, value, whole, (key,), problems)
    return section


def _compiles(spec: JobSpec, tree: Fields, file: str) -> None:
    """What only the kind can know to be wrong is found here too, at its place."""
    try:
        compile_job(spec)
    except ValidationError as error:
        raise file_error(problems_of(error, KINDS.get(spec.kind).section, tree, (spec.kind,)), file) from error
    except FileError:
        raise
    except UsageError as error:
        field = str(error.details.get("field", ""))
        path = [int(step) if step.isdigit() else step for step in field.split(".")]
        raise _error(place_of(tree, path), file, error.message, error.hint, field) from error


def _ordered(specs: list[JobSpec], trees: Sequence[Tree], file: str) -> list[JobSpec]:
    """So that each comes after those it waits for."""
    by_name: dict[str, JobSpec] = {}
    for spec, tree in zip(specs, trees, strict=True):
        if spec.name in by_name:
            place = place_of(tree, ["name"])
            raise _error(place, file, f"two jobs are called {spec.name!r}", "Give each a `name`.", "name")
        by_name[spec.name] = spec
    for spec, tree in zip(specs, trees, strict=True):
        for index, other in enumerate(spec.after):
            if other not in by_name and not is_id(other):
                _, hint = unknown(other, [known for known in by_name if known != spec.name])
                message = f"{spec.name} waits for {other!r}, which is neither a job in this file nor a run's id"
                place = place_of(tree, ["after", index])
                hint = hint.replace("Known keys here", "Jobs")
                raise _error(place, file, message, hint if len(by_name) > 1 else "", dotted(("after", index)))
    graph = {spec.name: [other for other in spec.after if other in by_name] for spec in specs}
    try:
        return [by_name[name] for name in TopologicalSorter(graph).static_order()]
    except CycleError as error:
        circle = " → ".join(reversed(error.args[1]))
        place = place_of(trees[specs.index(by_name[error.args[1][0]])], ["after"])
        raise _error(place, file, f"jobs wait for each other: {circle}", "Remove one `after`.", "after") from error


def _error(place: Place, file: str, message: str, hint: str, field: str = "") -> FileError:
    return file_error([Problem(message, hint, place, field)], file)
