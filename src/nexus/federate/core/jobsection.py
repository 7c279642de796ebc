"""`kind: federate` in a job file: one server task and client tasks that talk over the network, from one Python file.

    kind: federate
    federate: {app: app.py, clients: 3, rounds: 15, algorithm: fedprox, options: {mu: 0.1}}

What the section leaves out stays as the file's own `Settings` say.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

from pydantic import Field, field_validator

from nexus.federate.core.algorithms import ALGORITHMS
from nexus.federate.core.algorithms import build as build_algorithm
from nexus.federate.core.parts import FAMILIES, SIMULATED, build
from nexus.federate.model import Part
from nexus.kernel.errors import NexusError, UsageError
from nexus.kernel.ids import is_name
from nexus.launch.core.jobkind import JobKind
from nexus.launch.core.roles import needs_of, role_plan, run_plan
from nexus.launch.core.spec import JobSpec, Section
from nexus.launch.model import OnExit, Port, RolePlan, RunPlan

PORT = Port("federate")
SERVER, CLIENT = "server", "client"
SITE = "site"  # the label that says which site a machine is of
_FAMILIES = tuple(family for family in FAMILIES if family not in SIMULATED)  # on real nodes nobody plays the villain


class LocalSection(Section):
    """How a client trains."""

    epochs: int | None = Field(default=None, ge=1)
    """Times it goes over its own data in a round."""
    batch: int | None = Field(default=None, ge=1)
    """Samples in a step."""
    lr: float | None = Field(default=None, gt=0)
    """The rate of its SGD."""


class PartSection(Section):
    """One choice of a family. A name alone says the same without options."""

    name: str
    """Which one."""
    options: dict[str, float] = Field(default_factory=dict)
    """Its own options."""


class FederateSection(Section):
    """What only a federated job has."""

    app: str = "app.py"
    """The Python file in the workspace that defines `task`."""
    clients: Annotated[int, Field(ge=1, le=10_000)] | Annotated[tuple[str, ...], Field(min_length=1)] = 3
    """How many client tasks; the task's clients are dealt out to them by index. Or the names of the sites that take
    part, and nobody else: one client task on a machine with the label `site=NAME` each."""
    rounds: int | None = Field(default=None, ge=1)
    """How many rounds."""
    cohort: int | None = Field(default=None, ge=1)
    """How many of the task's clients take part in a round."""
    algorithm: str | None = None
    """How to learn together: fedavg, fedprox, scaffold, fednova, feddyn and others; `simulate --help` has them all."""
    options: dict[str, float] = Field(default_factory=dict)
    """The algorithm's own options, such as mu of fedprox."""
    sampler: str | PartSection | None = None
    """Who is chosen for a round."""
    personal: str | PartSection | None = None
    """What each client keeps for itself."""
    privacy: str | PartSection | None = None
    """What protects a single client."""
    secure_aggregation: str | PartSection | None = None
    """How the server sees the sum of a round's updates, and none of them."""
    compression: str | PartSection | None = None
    """How updates get smaller."""
    defence: str | PartSection | None = None
    """How updates become one, where some may be bad."""
    contribution: str | PartSection | None = None
    """How to find out what each client is worth to the rest."""
    samples_cap: int | None = Field(default=None, ge=0)
    """A client counts as having that many samples at most; 0: as many as it says; 1: all count alike."""
    seed: int | None = None
    """The same seed gives the same model, in simulation too."""
    local: LocalSection = LocalSection()
    """How a client trains."""
    quorum: float | None = Field(default=None, gt=0, le=1)
    """The part of a cohort without which a round fails."""
    deadline_s: float | None = Field(default=None, gt=0)
    """After how many seconds a round goes on without those who are missing."""
    lost_after_s: float | None = Field(default=None, gt=0)
    """After how many seconds of silence a client task is not waited for."""

    @field_validator("clients")
    @classmethod
    def _named(cls, value: int | tuple[str, ...]) -> int | tuple[str, ...]:
        if isinstance(value, tuple):
            for name in value:
                if not is_name(name) or "." in name or name in {SERVER, CLIENT}:
                    raise ValueError(f"{name!r} cannot name a site: lower case letters, digits, - and _")
            if len(set(value)) < len(value):
                raise ValueError("a site is named twice")
        return value

    @field_validator("app")
    @classmethod
    def _inside(cls, value: str) -> str:
        if not value.endswith(".py") or value.startswith(("/", "-")) or ".." in value.split("/"):
            raise ValueError("app must be a .py file inside the workspace")
        return value


class Federate:
    """A server whose end ends the run, and clients without one of which the run goes on; all start together."""

    section = FederateSection

    def compile(self, spec: JobSpec, section: FederateSection) -> RunPlan:
        """Raises UsageError for an unknown algorithm or option."""
        if spec.run:
            raise UsageError(
                "a federated job says what to run by `federate.app`", hint="Take `run` out of the file.", field="run"
            )
        if section.options and section.algorithm is None:
            raise UsageError("these options belong to no algorithm", hint="Add `algorithm:`.", field="federate.options")
        if section.algorithm is not None:
            _check(section.algorithm, section.options)
        for family, part in _parts(section).items():
            _check_part(family, part)
        argv = ("python", "-m", "nexus.federate.run", *_who(section), *_changes(section), section.app)
        server = role_plan(spec, SERVER, argv=argv, ports=(PORT,), gang=True, on_exit=OnExit.ANY, health=None)
        return run_plan(spec, (server, *_clients(spec, section, argv)))


def _sites(section: FederateSection) -> tuple[str, ...]:
    return section.clients if isinstance(section.clients, tuple) else ()


def _who(section: FederateSection) -> tuple[str, str]:
    """Who may take part, as every task is told."""
    sites = _sites(section)
    return ("--sites", ",".join(sites)) if sites else ("--hosts", str(section.clients))


def _clients(spec: JobSpec, section: FederateSection, argv: tuple[str, ...]) -> list[RolePlan]:
    """One role of client tasks; or one for each site, on a machine of that site."""
    needs = needs_of(spec.resources)
    places = {site: replace(needs, labels={**needs.labels, SITE: site}) for site in _sites(section)}
    count = 1 if isinstance(section.clients, tuple) else section.clients
    return [
        role_plan(
            spec, name, argv=argv, ports=(), count=count, needs=place, gang=True, on_exit=OnExit.IGNORE, health=None
        )
        for name, place in (places or {CLIENT: needs}).items()
    ]


def _check(algorithm: str, options: dict[str, float]) -> None:
    field = "federate.options" if algorithm in ALGORITHMS else "federate.algorithm"
    try:
        build_algorithm(algorithm, options)
    except NexusError as error:
        raise UsageError(error.message, hint=error.hint, field=field) from error


def _parts(section: FederateSection) -> dict[str, Part]:
    """The parts that the section names, by family."""
    found = {}
    for family in _FAMILIES:
        said: str | PartSection | None = getattr(section, family)
        if said is not None:
            found[family] = Part(said) if isinstance(said, str) else Part(said.name, said.options)
    return found


def _check_part(family: str, part: Part) -> None:
    field = f"federate.{family}" + (".options" if part.name in FAMILIES[family] else "")
    try:
        build(family, part)
    except NexusError as error:
        raise UsageError(error.message, hint=error.hint, field=field) from error


def _changes(section: FederateSection) -> tuple[str, ...]:
    """What differs from the file's own settings, as `--set` arguments of the role's process."""
    plain: dict[str, object] = section.model_dump(
        exclude_none=True, exclude={"app", "clients", "local", "options", *_FAMILIES}
    )
    changes = dict(plain)
    for family, part in _parts(section).items():
        changes |= {family: part.name} | {f"{family}.{name}": value for name, value in part.options.items()}
    changes |= {f"algorithm.{name}": value for name, value in section.options.items()}
    changes |= {f"local.{name}": value for name, value in section.local.model_dump(exclude_none=True).items()}
    return tuple(part for name, value in changes.items() for part in ("--set", f"{name}={value}"))


JOB_KIND: JobKind[FederateSection] = Federate()
