"""`nexus up`: server, scheduler, gateway and an agent for this machine, from one command."""

from __future__ import annotations

import click

from nexus.infra.shell import Shell


@click.command()
@click.option("--host", help="The address to listen on.  [default: 127.0.0.1]")
@click.option("--port", type=int, help="The port of the API and the pages.  [default: 7717]")
@click.option(
    "--plain-http", is_flag=True, default=None, help="Let others reach it without TLS: the network is trusted."
)
@click.option("--database", metavar="URL", help="sqlite:///path or postgresql://...  [default: a file in the home]")
@click.option("--blobs", metavar="URL", help="A folder or s3://bucket/prefix.  [default: a folder in the home]")
@click.option("--agent/--no-agent", default=None, help="Whether this machine runs jobs too.  [default: agent]")
@click.option("-d", "--detach", is_flag=True, help="Run in the background.")
@click.pass_obj
def command(
    shell: Shell,
    host: str | None,
    port: int | None,
    plain_http: bool | None,
    database: str | None,
    blobs: str | None,
    agent: bool | None,
    detach: bool,
) -> None:
    """Start Nexus on this machine."""
    from nexus.app.home import Home
    from nexus.app.settings import load_settings
    from nexus.kernel.errors import ConflictError

    settings = load_settings(host=host, port=port, plain_http=plain_http, database=database, blobs=blobs, agent=agent)
    running = Home(settings.home).server()
    if running:
        raise ConflictError(f"Nexus already runs at {running['url']}", hint="nexus open shows it, nexus down stops it.")
    if detach:
        from nexus.app.connect import start_background

        start_background(settings)
        if shell.json:
            shell.emit({"url": settings.url, "home": str(settings.home)})
        shell.say(f"Nexus is up at {settings.url}")
        return
    from nexus.app.serve import serve

    serve(settings)
