"""Check settings, and change them from the command line: `--set algorithm.mu=0.1`, `--set local.lr=0.05`."""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from typing import Any

from nexus.federate.core.composition import compose
from nexus.federate.core.parts import FAMILIES
from nexus.federate.model import Local, Part, Settings
from nexus.kernel.errors import UsageError

_PLAIN = ("rounds", "cohort", "seed", "samples_cap", "trace", "quorum", "deadline_s", "lost_after_s")
_NUMBER: dict[str, Callable[[str], Any]] = {"int": int, "float": float, "str": str}


def override(settings: Settings, changes: Mapping[str, str]) -> Settings:
    """`settings` with `path: text` changes applied. Raises UsageError for an unknown path or a bad number."""
    for path, text in changes.items():
        if path == "algorithm":
            settings = replace(settings, algorithm=text, options={})
        elif path in FAMILIES:
            settings = _with(settings, path, _chosen(path, text))
    for path, text in changes.items():
        head, _, name = path.partition(".")
        if head in FAMILIES and name:
            settings = _with(settings, head, _with_option(settings, head, name, _number(path, text, "float")))
        elif head == "algorithm" and name:
            settings = replace(settings, options=settings.options | {name: _number(path, text, "float")})
        elif head == "local" and name in _kinds(Local):
            settings = replace(settings, local=_with(settings.local, name, _number(path, text, _kinds(Local)[name])))
        elif path in _PLAIN:
            settings = _with(settings, path, _number(path, text, _kinds(Settings)[path]))
        elif path != "algorithm" and path not in FAMILIES:
            raise _unknown(path)
    return settings


def check(settings: Settings, clients: int) -> Settings:
    """`settings`, if rounds can go that way over `clients` clients. Raises UsageError, NotFoundError."""
    local = settings.local
    rules = {
        "rounds must be 1 or more": settings.rounds >= 1,
        f"cohort must be from 1 to the number of clients, {clients}": 1 <= settings.cohort <= clients,
        "samples_cap must be 0 or more": settings.samples_cap >= 0,
        "quorum must be above 0 and at most 1": 0 < settings.quorum <= 1,
        "deadline_s must be above 0": 0 < settings.deadline_s < math.inf,
        "lost_after_s must be above 0": 0 < settings.lost_after_s < math.inf,
        "local.epochs must be 1 or more": local.epochs >= 1,
        "local.batch must be 1 or more": local.batch >= 1,
        "local.lr must be above 0": 0 < local.lr < math.inf,
    }
    for rule, holds in rules.items():
        if not holds:
            raise UsageError(rule, hint="Change it in the task's Settings, or with --set.")
    compose(settings)
    return settings


def on_nodes(settings: Settings) -> Settings:
    """`settings`, if real nodes can go by them. Raises UsageError for what there is in simulation only."""
    simulated = {
        f"schedule={settings.schedule.name}": settings.schedule.name != "sync",
        "schedule.over": bool(settings.schedule.options),
        "devices": settings.devices is not None,
        "trace": bool(settings.trace),
    }
    for what, is_there in simulated.items():
        if is_there:
            raise UsageError(
                f"{what} is for simulation: on real nodes rounds are synchronous, and time is real",
                hint="Take it out of the task's Settings, or nexus federate simulate APP.",
            )
    return settings


def _chosen(family: str, text: str) -> Part | None:
    """`none` is a choice where there may be nothing of a family."""
    if text != "none":
        return Part(text)
    if getattr(Settings(), family) is not None:
        known = ", ".join(FAMILIES[family].names())
        raise UsageError(f"there is always a {family}", hint=f"One of: {known}.")
    return None


def _with_option(settings: Settings, family: str, name: str, value: float) -> Part:
    part: Part | None = getattr(settings, family)
    if part is None:
        known = ", ".join(FAMILIES[family].names())
        raise UsageError(f"{family}.{name} needs a {family}", hint=f"Say --set {family}=NAME too; there are: {known}.")
    return Part(part.name, part.options | {name: value})


def _with(value: Any, name: str, new: Any) -> Any:
    return replace(value, **{name: new})


def _kinds(kind: type[Any]) -> dict[str, str]:
    return {f.name: str(f.type) for f in fields(kind)}


def _number(path: str, text: str, kind: str) -> Any:
    try:
        return _NUMBER[kind](text)
    except ValueError:
        what = "a whole number" if kind == "int" else "a number"
        raise UsageError(f"{path} must be {what}, not {text!r}", hint=f"For example --set {path}=1") from None


def _unknown(path: str) -> UsageError:
    known = ["algorithm", *FAMILIES, *_PLAIN, *(f"local.{name}" for name in _kinds(Local)), "algorithm.OPTION"]
    near = difflib.get_close_matches(path, known, n=1)
    hint = f"Did you mean {near[0]}? " if near else ""
    return UsageError(f"there is no setting {path!r}", hint=f"{hint}There are: {', '.join(known)}.")
