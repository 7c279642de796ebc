"""`nexus server`: the server alone, for a machine that serves others and runs no jobs itself."""

from __future__ import annotations

import click

from nexus.app.commands.up import command as up

_OPTIONS = ("host", "port", "plain_http", "database", "blobs")


@click.command(params=[parameter for parameter in up.params if parameter.name in _OPTIONS])
def command(
    host: str | None, port: int | None, plain_http: bool | None, database: str | None, blobs: str | None
) -> None:
    """Run server, scheduler and gateway in the foreground, without an agent for this machine.

    For a container or a service manager: it stops on TERM. Machines join it with `nexus agent join`.
    """
    from nexus.app.serve import serve
    from nexus.app.settings import load_settings

    serve(load_settings(host=host, port=port, plain_http=plain_http, database=database, blobs=blobs, agent=False))
