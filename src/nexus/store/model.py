"""What the Job Store talks about: templates, which are jobs with declared parameters."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from nexus.deploy.model import Deployment
from nexus.launch.model import Submission

Scalar = str | int | float | bool


class ParameterType(StrEnum):
    """What a parameter takes."""

    TEXT = "text"
    INTEGER = "integer"
    NUMBER = "number"
    CHOICE = "choice"
    FLAG = "flag"


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """One question of a template's form. `path` is the field of the job file that the answer is written to."""

    name: str
    type: ParameterType
    title: str
    path: str
    default: Scalar
    help: str = ""
    choices: tuple[str, ...] = ()
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Template:
    """A job that can be launched by filling a form. `folder` holds its files, `job` is the text of its job file."""

    name: str
    title: str
    summary: str
    icon: str = "runs"
    parameters: tuple[Parameter, ...] = ()
    folder: str = ""
    job: str = ""

    @property
    def file(self) -> str:
        """The job file's name, as errors and people say it."""
        return f"{self.name}/job.yaml"


@dataclass(frozen=True, slots=True, kw_only=True)
class Filled:
    """A form's answers, checked: values by parameter, and the overrides of the job file that they make."""

    values: dict[str, Scalar] = field(default_factory=dict)
    sets: tuple[str, ...] = ()  # env.EPOCHS=10
    command: str = ""  # the same on the command line


@dataclass(frozen=True, slots=True, kw_only=True)
class TemplateView:
    """A template as the API shows it."""

    name: str
    title: str
    summary: str
    icon: str
    parameters: tuple[Parameter, ...]
    job: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What a caller of the API hands in: answers by parameter, as text."""

    values: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Preview:
    """What a launch would do: the same as a command, the job as it would run, and where."""

    command: str
    job: str
    place: str  # in words
    price: float = 0.0  # per hour
    fits: bool = True
    rejections: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """A filled form, read and compiled; with a `deployment` it becomes an endpoint, else a run."""

    submission: Submission
    deployment: Deployment | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Launched:
    """What a launch has made."""

    kind: str  # run | endpoint
    id: str
    name: str
