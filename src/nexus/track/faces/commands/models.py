"""`nexus models`: the registry."""

from __future__ import annotations

import time

import click

from nexus.infra.shell import Shell
from nexus.kernel.errors import UsageError
from nexus.kernel.units import format_bytes
from nexus.track.faces.client import TrackClient
from nexus.track.model import Model


@click.command()
@click.argument("name", required=False)
@click.option("--alias", metavar="ALIAS=VERSION", help="Point an alias of NAME at a version: production=3.")
@click.pass_obj
def command(shell: Shell, name: str | None, alias: str | None) -> None:
    """List the models, or the versions of one: model://NAME@VERSION is how jobs and endpoints name them."""
    client = TrackClient(shell.http)
    if alias is not None:
        _set_alias(shell, client, name, alias)
    elif name is None:
        _list(shell, client)
    else:
        _versions(shell, client, name)


def _set_alias(shell: Shell, client: TrackClient, name: str | None, alias: str) -> None:
    word, _, number = alias.partition("=")
    if name is None or not number.isdigit():
        raise UsageError("an alias needs a model and a version", hint="nexus models NAME --alias production=3")
    model = client.set_alias(name, word, int(number))
    if shell.json:
        shell.emit(model)
    shell.say(f"model://{model.name}@{word} is version {number} now")


def _list(shell: Shell, client: TrackClient) -> None:
    models = client.models()
    if shell.json:
        shell.emit(models)
        return
    rows = [(model.name, str(model.latest), _aliases(model)) for model in models]
    shell.table(
        ("MODEL", "LATEST", "ALIASES"), rows, empty='No models yet: nexus.artifact(..., kind="model") makes one.'
    )


def _versions(shell: Shell, client: TrackClient, name: str) -> None:
    model, versions = client.model(name), client.versions(name)
    if shell.json:
        shell.emit({"model": model, "versions": versions})
        return
    rows = [
        (
            str(version.number),
            " ".join(sorted(word for word, number in model.aliases.items() if number == version.number)),
            format_bytes(version.size_b),
            time.strftime("%Y-%m-%d %H:%M", time.gmtime(version.created)),
            version.run or version.user,
            " ".join(f"{key}={value:.4g}" for key, value in list(version.metrics.items())[:4]),
        )
        for version in versions
    ]
    shell.table(("VERSION", "ALIASES", "SIZE", "CREATED (UTC)", "FROM", "METRICS"), rows)


def _aliases(model: Model) -> str:
    return " ".join(f"{word}={number}" for word, number in sorted(model.aliases.items()))
