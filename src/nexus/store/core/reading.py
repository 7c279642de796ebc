"""A template's file, checked: every parameter has a type, a default that fits it, and a place in the job."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from nexus.kernel.errors import FileError, UsageError
from nexus.kernel.ids import is_name
from nexus.store.core.answers import as_text, check
from nexus.store.model import Parameter, ParameterType, Scalar, Template


class _ParameterFile(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    type: ParameterType
    path: str
    default: Scalar
    title: str = ""
    help: str = ""
    choices: tuple[str, ...] = ()
    low: float | None = None
    high: float | None = None


class _TemplateFile(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    title: str
    summary: str
    icon: str = "runs"
    parameters: tuple[_ParameterFile, ...] = ()


def read_template(name: str, content: Mapping[str, Any], *, folder: str, job: str) -> Template:
    """The template whose `template.yaml` holds `content`. Raises FileError, with the field that is wrong."""
    file = f"{name}/template.yaml"
    if not is_name(name):
        raise FileError(f"{name!r} is not a template's name", file=file, hint="Lower case letters, digits, and . _ -")
    try:
        read = _TemplateFile.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        raise FileError(f"{field}: {first['msg']}", file=file, field=field) from error
    parameters = tuple(_parameter(one, file) for one in read.parameters)
    names = [one.name for one in parameters]
    if len(set(names)) < len(names):
        raise FileError("two parameters have the same name", file=file, field="parameters")
    return Template(
        name=name,
        title=read.title,
        summary=read.summary,
        icon=read.icon,
        parameters=parameters,
        folder=folder,
        job=job,
    )


def _parameter(read: _ParameterFile, file: str) -> Parameter:
    title = read.title or read.name.replace("_", " ").capitalize()
    parameter = Parameter(**{**read.model_dump(), "title": title})
    if parameter.type is ParameterType.CHOICE and not parameter.choices:
        raise FileError(f"the parameter {read.name} has no choices", file=file, field=f"parameters.{read.name}.choices")
    try:
        check(parameter, as_text(parameter.default))
    except UsageError as error:
        raise FileError(
            f"the default of {read.name} does not fit: {error.message}", file=file, field=f"parameters.{read.name}"
        ) from error
    return parameter
