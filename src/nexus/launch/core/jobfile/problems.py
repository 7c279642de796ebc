"""What is wrong with a file, in words a person can act on, at the place where it stands."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from nexus.kernel.errors import FileError
from nexus.launch.core.jobfile.tree import Place, Tree, place_of

Path = tuple[str | int, ...]

_NEEDS = {
    "string_type": "text",
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "float_parsing": "a number",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "tuple_type": "a list",
    "list_type": "a list",
    "set_type": "a list",
    "dict_type": "a mapping",
    "model_type": "a mapping",
    "model_attributes_type": "a mapping",
    "finite_number": "a finite number",
    "int_parsing_size": "a smaller number",
}
_BOUNDS = {"greater_than_equal": "at least", "greater_than": "more than", "less_than_equal": "at most"}
_BOUNDS |= {"less_than": "less than"}
_LIMITS = {"greater_than_equal": "ge", "greater_than": "gt", "less_than_equal": "le", "less_than": "lt"}


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong."""

    message: str
    hint: str
    place: Place
    field: str

    def as_dict(self, file: str) -> dict[str, Any]:
        """As error details carry it."""
        return {
            "message": self.message,
            "hint": self.hint,
            "file": self.place.source or file,
            "line": self.place.line,
            "column": self.place.column,
            "field": self.field,
        }


def file_error(problems: Sequence[Problem], file: str) -> FileError:
    """The first problem as an error; `details["problems"]` holds all of them."""
    ordered = sorted(problems, key=lambda problem: (problem.place.line, problem.place.column))
    first, more = ordered[0], len(ordered) - 1
    hint = first.hint
    if more:
        hint += f" ({more} more: `nexus job validate` lists them.)"
    return FileError(
        first.message,
        hint=hint.strip(),
        file=first.place.source or file,
        line=first.place.line,
        column=first.place.column,
        field=first.field,
        problems=[problem.as_dict(file) for problem in ordered],
    )


def problems_of(error: ValidationError, model: type[BaseModel], tree: Tree, prefix: Path = ()) -> list[Problem]:
    """What pydantic found about `tree` at `prefix`, read as `model`: in our words, at its places."""
    found: dict[str, Problem] = {}
    for raw in error.errors(include_url=False):
        path, at_key = _clean((*prefix, *raw["loc"]), literal=raw["type"] in {"missing", "extra_forbidden"})
        field = dotted(path)
        message, hint = _words(raw, field, model)
        key = at_key or raw["type"] == "extra_forbidden"
        found.setdefault(field, Problem(message, hint, place_of(tree, path, key=key), field))
    return list(found.values())


def dotted(path: Iterable[str | int]) -> str:
    """`roles.0.count`."""
    return ".".join(str(step) for step in path)


def _clean(loc: Path, *, literal: bool) -> tuple[Path, bool]:
    """Without pydantic's own marks (`[key]`, names of union members): those are no keys of the file."""
    if loc and loc[-1] == "[key]":
        return loc[:-1], True
    kept = [step for step in loc if not (isinstance(step, str) and ("[" in step or "(" in step or "-" in step))]
    return (loc if literal else tuple(kept)), False


def _words(raw: Any, field: str, model: type[BaseModel]) -> tuple[str, str]:
    kind, context, value = raw["type"], raw.get("ctx", {}), raw["input"]
    if kind == "nexus":
        return f"`{field}`: {context['message']}" if field else context["message"], context["hint"]
    if kind == "extra_forbidden":
        return unknown(str(raw["loc"][-1]), known_keys(model, raw["loc"][:-1]))
    if kind == "missing":
        return f"`{field}` is needed", f"Add `{raw['loc'][-1]}:`."
    if kind in {"literal_error", "enum"}:
        return _choice(field, value, str(context["expected"]))
    if kind in _NEEDS:
        hint = f"Put it in quotes: '{value}'." if kind == "string_type" and isinstance(value, int | float) else ""
        return f"`{field}` needs {_NEEDS[kind]}, not {shown(value)}", hint
    if kind in _BOUNDS:
        return f"`{field}` must be {_BOUNDS[kind]} {context[_LIMITS[kind]]}, not {shown(value)}", ""
    return f"`{field}`: {raw['msg'][:1].lower()}{raw['msg'][1:]}", ""


def _choice(field: str, value: Any, expected: str) -> tuple[str, str]:
    choices = [word.strip("' ") for word in expected.replace(" or ", ", ").split(",")]
    near = difflib.get_close_matches(str(value), choices, n=1)
    hint = f"Did you mean {near[0]!r}? " if near else ""
    return f"`{field}` cannot be {shown(value)}", f"{hint}It is one of: {', '.join(choices)}."


def unknown(key: str, known: Sequence[str]) -> tuple[str, str]:
    """The message and the hint for a key that does not exist."""
    near = difflib.get_close_matches(key, known, n=1)
    hint = f"Did you mean `{near[0]}`?" if near else f"Known keys here: {', '.join(known)}."
    return f"unknown key {key!r}", hint


def shown(value: Any) -> str:
    """A value as an error shows it: short."""
    if isinstance(value, dict | list | tuple):
        return "a mapping" if isinstance(value, dict) else "a list"
    if value is None or isinstance(value, bool):
        return "nothing" if value is None else str(value).lower()
    text = repr(value) if isinstance(value, str) else str(value)
    return text if len(text) <= 60 else text[:57] + "..."


def known_keys(model: type[BaseModel], path: Sequence[str | int]) -> list[str]:
    """The keys that the model has at `path`."""
    for step in path:
        field = model.model_fields.get(str(step))
        inner = _model_in(field.annotation) if field else None
        model = inner or model
    return [name for name, field in model.model_fields.items() if not field.exclude]


def _model_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for inner in get_args(annotation) if (found := _model_in(inner))), None)
