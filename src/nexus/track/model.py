"""What the words of tracking mean: streams, series, artifacts, models and their versions. Pure."""

from __future__ import annotations

import re
from array import array
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from nexus.kernel.errors import UsageError
from nexus.kernel.ids import is_name
from nexus.kernel.records import Kind, Record

# --------------------------------------------------------------------------- whose stream


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamOwner:
    """Whose metrics and log these are: one task, which is one attempt of one process of a run."""

    project: str
    run: str
    task: str
    role: str
    index: int = 0
    attempt: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Stream(Record):
    """A task that has sent something; its id is the task's. From these a run's streams are found."""

    run: str
    role: str
    index: int
    attempt: int


STREAMS = Kind("stream", Stream, index=("run",))


# --------------------------------------------------------------------------- logs


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskLine:
    """One frame of a task's log. `whole` is False when the line goes on in the next frame of the same stream."""

    task: str
    role: str
    index: int
    attempt: int
    at_ms: int
    stream: str  # out | err | nexus
    text: str
    whole: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class LogPage:
    """Lines of a run, and the cursor that continues after them. `end`: the run is over and this was everything."""

    lines: tuple[TaskLine, ...] = ()
    cursor: str = ""
    end: bool = False


Cursor = dict[str, int]  # task or series -> how much of it was read
_CURSOR_PART = re.compile(r"([A-Za-z0-9_]{1,64})\.(\d{1,19})")


def write_cursor(cursor: Cursor) -> str:
    """A cursor as text that is safe in URLs and headers: `task_a.120~task_b.9`."""
    return "~".join(f"{name}.{position}" for name, position in sorted(cursor.items()))


def read_cursor(text: str) -> Cursor:
    """The cursor that `write_cursor` wrote; an empty text is the beginning. Raises UsageError."""
    cursor: Cursor = {}
    for part in text.split("~") if text else ():
        match = _CURSOR_PART.fullmatch(part)
        if match is None:
            raise UsageError(
                f"{text[:80]!r} is not a cursor", hint="Give back the `cursor` of an earlier answer, or leave it out."
            )
        cursor[match[1]] = int(match[2])
    return cursor


# --------------------------------------------------------------------------- metrics


@dataclass(frozen=True, slots=True)
class Points:
    """Numbers in columns: step, seconds since 1970 (UTC), value. NaN and infinities are kept as they are."""

    steps: array[int]  # type code q
    times: array[float]  # type code d
    values: array[float]  # type code d

    def __len__(self) -> int:
        return len(self.steps)


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """What one piece of a metric stream holds: the store takes it whole, or not at all.

    `start` and `end` are bytes of the stream file, so a piece that comes twice is known.
    """

    owner: StreamOwner
    stream: str
    start: int
    end: int
    points: dict[str, Points] = field(default_factory=dict)  # by key
    params: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """One key of one task, summed up; `n` points so far, the last of which is (step, at, value)."""

    id: str
    run: str
    task: str
    role: str
    index: int
    attempt: int
    key: str
    n: int
    step: int
    at: float
    value: float
    low: float  # smallest and largest value that is a number; NaN when there is none
    high: float


# --------------------------------------------------------------------------- artifacts and models


class ArtifactKind(StrEnum):
    """What an artifact is for; a model becomes the next version in the registry."""

    ARTIFACT = "artifact"
    MODEL = "model"
    CHECKPOINT = "checkpoint"


@dataclass(frozen=True, slots=True, kw_only=True)
class ArtifactReport:
    """An output that is uploaded already. The same words as `launch.protocol.ArtifactReport`."""

    name: str
    digest: str
    size_b: int
    path: str = ""
    packed: bool = False
    kind: ArtifactKind = ArtifactKind.ARTIFACT
    meta: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Artifact(Record):
    """Something a run left behind. A name may come again in the same run; the newest is meant."""

    run: str
    task: str
    name: str
    digest: str
    size_b: int
    path: str = ""
    packed: bool = False  # a folder as a package (infra.package), else one file's bytes
    kind: ArtifactKind = ArtifactKind.ARTIFACT
    meta: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Model(Record):
    """A name under which versions 1, 2, 3 ... are kept. `latest` is the newest number."""

    name: str
    latest: int
    aliases: dict[str, int] = field(default_factory=dict)  # production -> 3

    def number(self, version: str) -> int:
        """The number that `3`, `latest` or an alias means. Raises UsageError for an unknown one."""
        if version == "latest":
            return self.latest
        if version.isdigit() and len(version) < 10:
            return int(version)
        if version in self.aliases:
            return self.aliases[version]
        known = ", ".join(["latest", *sorted(self.aliases)])
        raise UsageError(f"the model {self.name} has no version {version!r}", hint=f"It has 1..{self.latest}, {known}.")


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelVersion(Record):
    """One version of a model, and where it came from: the run, its parameters, its numbers at that moment."""

    model: str
    number: int
    digest: str
    size_b: int
    packed: bool = False
    artifact: str = ""
    run: str = ""
    task: str = ""
    user: str = ""
    params: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)
    meta: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Upload(Record):
    """Proof that somebody of the project had these bytes, so that the project may read them."""

    digest: str
    size_b: int


ARTIFACTS = Kind("artifact", Artifact, index=("run", "task", "name", "digest"))
MODELS = Kind("model", Model, index=("name",), unique=("project", "name"))
VERSIONS = Kind(
    "model_version", ModelVersion, index=("model", "number", "run", "digest"), unique=("project", "model", "number")
)
UPLOADS = Kind("upload", Upload, index=("digest",), unique=("project", "digest"))

KINDS = (STREAMS, ARTIFACTS, MODELS, VERSIONS, UPLOADS)


# --------------------------------------------------------------------------- names


@dataclass(frozen=True, slots=True)
class Reference:
    """`model://NAME@VERSION` or `artifact://RUN/NAME`."""

    scheme: str  # model | artifact
    owner: str  # a model's name, or a run
    item: str  # a version, alias or `latest`; or an artifact's name


def parse_reference(text: str) -> Reference:
    """Read a reference; a model without `@` means its latest version. Raises UsageError."""
    scheme, _, rest = text.partition("://")
    if scheme == "model":
        name, at, version = rest.partition("@")
        if is_name(name) and (version or not at) and "@" not in version:
            return Reference("model", name, version or "latest")
    if scheme == "artifact":
        run, _, name = rest.partition("/")
        if run and name:
            return Reference("artifact", run, check_artifact_name(name))
    raise UsageError(
        f"{text!r} is not a reference",
        hint="Write model://NAME@3, model://NAME@latest, model://NAME@ALIAS, or artifact://RUN/NAME.",
    )


_HEX64 = re.compile(r"[0-9a-f]{64}")
_STREAM_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


def check_digest(text: str) -> str:
    """A SHA-256 in 64 hex digits. Raises UsageError."""
    if _HEX64.fullmatch(text) is None:
        raise UsageError(f"{text[:80]!r} is not a SHA-256", hint="64 hexadecimal digits in lower case are one.")
    return text


def check_stream_name(text: str) -> str:
    """The name of a metric stream's file. Raises UsageError."""
    if _STREAM_NAME.fullmatch(text) is None:
        raise UsageError(f"{text[:120]!r} is not a stream's name", hint="Letters, digits and . _ - make one.")
    return text


def check_artifact_name(text: str) -> str:
    """A name, or a relative path as a name: no `..`, no backslash, nothing unprintable. Raises UsageError."""
    parts = text.split("/")
    if not 0 < len(text) <= 200 or not text.isprintable() or "\\" in text or {"", ".", ".."} & set(parts):
        raise UsageError(
            f"{text[:80]!r} cannot name an artifact", hint="Use a relative path such as checkpoints/last.pt."
        )
    return text


def check_alias(text: str) -> str:
    """A word such as `production`; not `latest` and not a number, which mean something already. Raises UsageError."""
    if not is_name(text) or text.isdigit() or text == "latest":
        raise UsageError(f"{text[:80]!r} cannot be an alias", hint="Use a word such as production or candidate.")
    return text
