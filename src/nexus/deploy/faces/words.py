"""How endpoints are told to people."""

from __future__ import annotations

import shlex
from collections.abc import Iterable

from nexus.deploy.model import EndpointView, Revision
from nexus.infra.shell import Shell

HEAD = ("NAME", "STATE", "READY", "REVISION", "MODEL", "URL")


def row(view: EndpointView) -> tuple[str, ...]:
    """One line of the list."""
    ready = f"{_ready(view)}/{view.replicas}"
    return (view.name, str(view.state), ready, str(view.revision), shown_model(view), view.url)


def _ready(view: EndpointView) -> int:
    """How many of the wanted replicas are ready; in a rollout, and when there shall be fewer, more may be."""
    return min(view.ready, view.replicas)


def shown_model(view: EndpointView) -> str:
    """`digits@2`; what has no version stays as it is."""
    return view.model.removeprefix("model://") or "-"


def progress(view: EndpointView) -> str:
    """One line while an endpoint comes up."""
    doing = next((r.detail for r in view.running if not r.ready and r.detail), "") or view.reason
    line = f"{view.name}: {view.state}, {_ready(view)} of {view.replicas} ready, revision {view.revision}"
    return f"{line} ({doing})" if doing else line


def watch(shell: Shell, views: Iterable[EndpointView]) -> EndpointView | None:
    """Say how it comes up, each step once; the last view, if there is one."""
    said, view = "", None
    try:
        for view in views:
            if progress(view) != said:
                said = progress(view)
                shell.note(said)
    except KeyboardInterrupt:
        if view is not None:
            shell.note(f"\n{view.name} goes on without you.  Look again: nexus endpoints show {view.name}")
        raise
    return view


def tell(shell: Shell, view: EndpointView) -> None:
    """Everything about one endpoint."""
    facts = {
        "name": view.name,
        "state": f"{view.state}{f': {view.reason}' if view.reason else ''}",
        "fault": view.fault,
        "url": view.url,
        "model": shown_model(view),
        "engine": view.engine,
        "replicas": f"{_ready(view)} of {view.replicas} ready",
        "requests": f"{view.requests} answered, {view.errors} with an error",
    }
    for name, value in facts.items():
        if value:
            shell.say(f"{name:<10}{value}")
    shell.say(f"{'try it':<10}{try_it(view)}")
    if not view.openai:
        shell.say(f"{'':<10}{curl(view)}")
    shell.say()
    rows = [(r.task, str(r.revision), r.state, "yes" if r.ready else "no", r.address, r.detail) for r in view.running]
    shell.table(("REPLICA", "REVISION", "STATE", "READY", "ADDRESS", "DETAIL"), rows, empty="No replicas yet.")
    shell.say()
    shell.table(("REVISION", "STATE", "MODEL", "RUN", "REASON"), [_revision(r) for r in view.revisions])


def _revision(revision: Revision) -> tuple[str, ...]:
    model = revision.model.removeprefix("model://") or "-"
    return (str(revision.number), str(revision.state), model, revision.run or "-", revision.reason)


def try_it(view: EndpointView) -> str:
    """A command to try next, which works as it stands if the job file gave an example."""
    if view.openai:
        return f"nexus chat {view.name}"
    return f"nexus endpoints call {view.name}" + ("" if view.example else " INPUTS  (as JSON, or @FILE)")


def curl(view: EndpointView) -> str:
    """The same for any other program, as a line for a shell."""
    inputs = shlex.quote(view.example) if view.example else "@inputs.json"
    head = "-H \"Authorization: Bearer $(nexus token show)\" -H 'Content-Type: application/json'"
    return f"curl {view.url}/predict {head} -d {inputs}"
