"""What may stand where a command asks for a run, a node, an endpoint or a model: asked of the server, or nothing.

A shell waits while this runs, so it never starts a server, and gives up after a moment.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from click.shell_completion import CompletionItem

if TYPE_CHECKING:
    import click

    from nexus.infra.http_client import HttpClient

Completer = Callable[["click.Context", "click.Parameter", str], list[CompletionItem]]
_PATIENCE_S = 1.0
_MOST = 50


def complete(kind: str, incomplete: str) -> list[CompletionItem]:
    """The names of this kind that begin so, each with a word about it."""
    found = HERE[kind]() if kind in HERE else _ask(ASKED[kind])
    return [CompletionItem(name, help=about) for name, about in found.items() if name.startswith(incomplete)]


def _ask(question: Callable[[HttpClient], dict[str, str]]) -> dict[str, str]:
    from nexus.app.connect import running
    from nexus.app.settings import load_settings
    from nexus.kernel.errors import NexusError

    http = running(load_settings(), _PATIENCE_S)
    if http is None:
        return {}
    try:
        return question(http)
    except NexusError:
        return {}
    finally:
        http.close()


def completer(command: str, argument: str) -> Completer | None:
    """What completes a command's argument, as click asks for it; None for what cannot be known."""
    for kind in (f"{command} {argument}", argument):
        if kind in ASKED or kind in HERE:
            return lambda _context, _parameter, incomplete: complete(kind, incomplete)
    return None


def _runs(http: HttpClient) -> dict[str, str]:
    from nexus.launch.faces.client import LaunchClient

    found: dict[str, str] = {}
    for run in LaunchClient(http).page(limit=_MOST).runs:
        found.setdefault(run.name, f"{run.state}: the newest of this name")
        found[run.id] = f"{run.name} {run.state}"
    return found


def _nodes(http: HttpClient) -> dict[str, str]:
    from nexus.launch.faces.client import LaunchClient

    return {use.node.name: str(use.node.state) for use in LaunchClient(http).nodes()}


def _endpoints(http: HttpClient) -> dict[str, str]:
    from nexus.deploy.faces.client import DeployClient

    return {endpoint.name: str(endpoint.state) for endpoint in DeployClient(http).list()}


def _models(http: HttpClient) -> dict[str, str]:
    from nexus.track.faces.client import TrackClient

    return {model.name: "" for model in TrackClient(http).models()}


def _templates() -> dict[str, str]:
    from nexus.store.templates import TEMPLATES

    return dict.fromkeys(TEMPLATES, "")


# The name of an argument, or of a command and its argument -> what may stand there.
ASKED: dict[str, Callable[[HttpClient], dict[str, str]]] = {
    "run": _runs,
    "runs": _runs,
    "node": _nodes,
    "endpoint": _endpoints,
    "endpoints name": _endpoints,
    "models name": _models,
}
HERE: dict[str, Callable[[], dict[str, str]]] = {"store name": _templates}
