"""The kinds of value a job file holds: each is read from how people write it, and written back the same way."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Annotated, Any, ClassVar, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    GetJsonSchemaHandler,
    PlainSerializer,
    WithJsonSchema,
    model_validator,
)
from pydantic_core import CoreSchema, PydanticCustomError

from nexus.kernel.errors import UsageError
from nexus.kernel.ids import is_name, to_name
from nexus.kernel.units import Range, parse_range, parse_seconds

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_PORT_NAME = re.compile(r"[a-z]([a-z0-9_-]{0,30}[a-z0-9])?")
_DRIVE = re.compile(r"[A-Za-z]:")
_SCHEME = re.compile(r"([a-z][a-z0-9+.-]*)://.+", re.DOTALL)

TASK_VARIABLES = tuple(
    f"NEXUS_{word}"
    for word in "RUN_ID ROLE INDEX ATTEMPT NUM_NODES NODE_ADDRS OUTPUTS API_URL TOKEN".split()  # noqa: SIM905
)


class Section(BaseModel):
    """A part of a job file: unknown keys are errors, values never change."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, arbitrary_types_allowed=True, use_attribute_docstrings=True, validate_default=False
    )
    shorthand: ClassVar[tuple[dict[str, Any], ...]] = ()  # JSON Schemas of the other ways to write this part

    @model_validator(mode="before")
    @classmethod
    def _nothing_said(cls, value: Any) -> Any:
        """A key with nothing behind it is as if it were not there, unless nothing is one of its values."""
        if not isinstance(value, dict):
            return value
        return {key: entry for key, entry in value.items() if entry is not None or _may_be_none(cls, key)}

    @classmethod
    def __get_pydantic_json_schema__(cls, core: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        schema = handler(core)
        return {"anyOf": [*cls.shorthand, schema]} if cls.shorthand else schema


def _may_be_none(model: type[BaseModel], key: object) -> bool:
    field = model.model_fields.get(str(key))
    return field is None or field.annotation is Any or type(None) in get_args(field.annotation)


def complaint(message: str, hint: str = "") -> PydanticCustomError:
    """An error that pydantic places, with our words."""
    return PydanticCustomError("nexus", "{message}", {"message": message, "hint": hint})


def _read(parse: Callable[[Any], Any], what: str, *kinds: type) -> BeforeValidator:
    def validate(value: Any) -> Any:
        if not isinstance(value, kinds) or isinstance(value, bool):
            raise complaint(f"{_shown(value)} is not {what}")
        try:
            return parse(value)
        except UsageError as error:
            raise complaint(error.message, error.hint) from error

    return BeforeValidator(validate)


def _shown(value: Any) -> str:
    if isinstance(value, dict | list):
        return "a mapping" if isinstance(value, dict) else "a list"
    return "nothing" if value is None else repr(value)


# --------------------------------------------------------------------------- quantities


def write_bytes(count: float) -> str | int:
    """`16GiB`, `500MB`, or a plain number: exact, so that reading it again gives the same."""
    for power, unit in ((4, "TiB"), (3, "GiB"), (2, "MiB"), (1, "KiB")):
        if count and count % 1024**power == 0:
            return f"{int(count // 1024**power)}{unit}"
    for power, unit in ((4, "TB"), (3, "GB"), (2, "MB"), (1, "KB")):
        if count and count % 1000**power == 0:
            return f"{int(count // 1000**power)}{unit}"
    return int(count)


def write_seconds(seconds: float) -> str:
    """`2h`, `90s`: exact."""
    for factor, unit in ((86400, "d"), (3600, "h"), (60, "m")):
        if seconds and seconds % factor == 0:
            return f"{int(seconds // factor)}{unit}"
    return f"{write_number(seconds)}s"


def write_number(value: float) -> str:
    """`4`, `0.5`: never an exponent, which ranges do not read."""
    return str(int(value)) if value == int(value) else f"{value:.12f}".rstrip("0")


def write_range(value: Range, write: Callable[[float], object]) -> str:
    """`4..`, `4..8`, `..8`, or nothing for an open range."""
    low = "" if value.low is None else str(write(value.low))
    high = "" if value.high is None else str(write(value.high))
    return f"{low}..{high}" if low or high else ""


def _range_of(unit: str, what: str, write: Callable[[float], object], example: str) -> Any:
    def parse(value: Any) -> Range:
        return value if isinstance(value, Range) else parse_range(value, unit)

    return (
        _read(parse, what, int, float, str, Range),
        PlainSerializer(lambda value: write_range(value, write), return_type=str),
        WithJsonSchema({"anyOf": [{"type": "number", "minimum": 0}, {"type": "string"}], "examples": [example, "4.."]}),
    )


def _money(value: Any) -> float:
    text = str(value).strip().lstrip("$€£").strip()
    try:
        price = float(text)
    except ValueError:
        price = -1.0
    if not 0 <= price < 1e9:
        raise UsageError(f"{value!r} is not a price per hour, such as 2.50")
    return price


Count = Annotated[Range, *_range_of("number", "a number or a range, such as 4, 4.. or 4..8", write_number, "4..8")]
Bytes = Annotated[Range, *_range_of("bytes", "a size or a range, such as 16GiB or 16GiB..", write_bytes, "16GiB..")]
Backoff = Annotated[Range, *_range_of("seconds", "a range of durations, such as 10s..5m", write_seconds, "10s..5m")]
Seconds = Annotated[
    float,
    _read(parse_seconds, "a duration, such as 90s or 2h", int, float, str),
    PlainSerializer(write_seconds, return_type=str),
    WithJsonSchema({"anyOf": [{"type": "number", "minimum": 0}, {"type": "string"}], "examples": ["90s", "2h"]}),
]
Price = Annotated[
    float,
    _read(_money, "a price per hour, such as 2.50", int, float, str),
    WithJsonSchema({"anyOf": [{"type": "number", "minimum": 0}, {"type": "string"}], "examples": [2.5, "$1.75"]}),
]


# --------------------------------------------------------------------------- names and paths


def _name(value: str) -> str:
    if not is_name(value):
        raise complaint(
            f"{value!r} is not a name: lower case, digits and . _ - within, 63 characters at most",
            f"Call it {to_name(value)!r}.",
        )
    return value


def _variable(value: str) -> str:
    if not _VARIABLE.fullmatch(value):
        raise complaint(f"{value!r} cannot name an environment variable", "Use letters, digits and _ only.")
    if value in TASK_VARIABLES:
        raise complaint(f"{value} is set by Nexus for every task", "Give your own variable another name.")
    return value


def _text(value: Any) -> Any:
    if isinstance(value, bool):
        return str(value).lower()
    return str(value) if isinstance(value, int | float) else value


def _no_nul(value: str) -> str:
    if "\x00" in value:
        raise complaint("a NUL character cannot be in here")
    return value


def _inside(value: str) -> str:
    parts = value.split("/")
    if not value.strip("/") or value.startswith("/") or "\\" in value or ".." in parts or _DRIVE.match(value):
        raise complaint(f"{value!r} is not a path inside the workspace", "Write it relative, such as model/ .")
    return _no_nul(value)


def _source(value: str) -> str:
    match = _SCHEME.fullmatch(value)
    if match is None or match[1] not in {"artifact", "model"}:
        raise complaint(
            f"{value!r} is not an input that Nexus can fetch",
            "Inputs are artifact://RUN/NAME or model://NAME@VERSION.",
        )
    return value


def _port_name(value: str) -> str:
    if not _PORT_NAME.fullmatch(value):
        raise complaint(f"{value!r} cannot name a port", "Use lower case, digits, - and _, such as http.")
    return value


Text = Annotated[str, BeforeValidator(_text), AfterValidator(_no_nul)]
Name = Annotated[str, AfterValidator(_name)]
Variable = Annotated[str, AfterValidator(_variable)]
InsidePath = Annotated[str, AfterValidator(_inside)]
Source = Annotated[str, AfterValidator(_source)]
PortName = Annotated[str, AfterValidator(_port_name)]


def as_list(value: Any) -> Any:
    """One thing where several may stand."""
    return [value] if isinstance(value, str) else value


Texts = Annotated[tuple[str, ...], BeforeValidator(as_list)]
