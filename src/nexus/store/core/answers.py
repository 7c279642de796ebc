"""From a form's answers to overrides of a job file. Every wrong answer is named at once, by its field."""

from __future__ import annotations

import difflib
import json
import math
import shlex
from collections.abc import Mapping

from nexus.kernel.errors import UsageError
from nexus.store.model import Filled, Parameter, ParameterType, Scalar, Template

_TEXT_MAX = 2000
_YES, _NO = frozenset({"true", "yes", "on", "1"}), frozenset({"false", "no", "off", "0", ""})


def fill(template: Template, given: Mapping[str, str]) -> Filled:
    """The answers, checked. What has its default is left as the job file says it.

    Raises UsageError, with the wrong answers by parameter as `fields`.
    """
    values: dict[str, Scalar] = {}
    wrong = {name: _unknown(name, template) for name in given if name not in {one.name for one in template.parameters}}
    for parameter in template.parameters:
        answer = given.get(parameter.name)
        if answer is None:
            values[parameter.name] = parameter.default
            continue
        try:
            values[parameter.name] = check(parameter, answer)
        except UsageError as error:
            wrong[parameter.name] = error.message
    if wrong:
        words = "; ".join(f"{name}: {message}" for name, message in wrong.items())
        hint = f"nexus store show {template.name} lists its parameters."
        raise UsageError(words, hint=hint, fields=wrong)
    changed = [one for one in template.parameters if values[one.name] != one.default]
    command = " ".join(
        ["nexus store launch", template.name]
        + [f"--set {shlex.quote(f'{one.name}={as_text(values[one.name])}')}" for one in changed]
    )
    sets = tuple(f"{one.path}={_as_yaml(values[one.name])}" for one in changed)
    return Filled(values=values, sets=sets, command=command)


def check(parameter: Parameter, answer: str) -> Scalar:
    """One answer as a value of the parameter's type. Raises UsageError."""
    text = answer.strip()
    match parameter.type:
        case ParameterType.FLAG:
            if text.lower() not in _YES | _NO:
                raise UsageError(f"{text!r} is neither yes nor no")
            return text.lower() in _YES
        case ParameterType.CHOICE:
            if text not in parameter.choices:
                raise UsageError(f"{text!r} is not one of {', '.join(parameter.choices)}")
            return text
        case ParameterType.TEXT:
            if len(text) > _TEXT_MAX or not text.isprintable():
                raise UsageError(f"this is not a line of at most {_TEXT_MAX} characters")
            return text
        case ParameterType.INTEGER | ParameterType.NUMBER:
            return _number(parameter, text)


def _number(parameter: Parameter, text: str) -> int | float:
    whole = parameter.type is ParameterType.INTEGER
    try:
        value = int(text) if whole else float(text)
    except ValueError as error:
        raise UsageError(f"{text!r} is not a {'whole ' if whole else ''}number") from error
    low = -math.inf if parameter.low is None else parameter.low
    high = math.inf if parameter.high is None else parameter.high
    if not math.isfinite(value) or not low <= value <= high:
        raise UsageError(f"{text} is not {_bounds(parameter)}")
    return value


def _bounds(parameter: Parameter) -> str:
    low, high = parameter.low, parameter.high
    if low is not None and high is not None:
        return f"between {low:g} and {high:g}"
    return f"{low:g} or more" if low is not None else f"{high:g} or less" if high is not None else "a finite number"


def as_text(value: Scalar) -> str:
    """A value as a form and a command line write it."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def _as_yaml(value: Scalar) -> str:
    """A value that YAML reads as itself: text in JSON's quotes, which are YAML's too."""
    return json.dumps(value, ensure_ascii=False)


def _unknown(name: str, template: Template) -> str:
    names = [one.name for one in template.parameters]
    near = difflib.get_close_matches(name, names, n=1)
    return f"there is no such parameter{f'; did you mean {near[0]}?' if near else ''}"
