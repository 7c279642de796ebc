"""`nexus open`: the web pages, logged in."""

from __future__ import annotations

import click

from nexus.infra.shell import Shell


@click.command()
@click.argument("page", default="/")
@click.option("--no-browser", is_flag=True, help="Only print the link.")
@click.pass_obj
def command(shell: Shell, page: str, no_browser: bool) -> None:
    """Open the web pages (PAGE: /runs, /nodes, /chat, ...) with a link that logs this browser in, once."""
    from urllib.parse import quote

    from nexus.access.faces.client import AccessClient

    code = AccessClient(shell.http).login_code().secret
    path = "/" + page.lstrip("/")
    link = f"{shell.http.url}/login/{code}?next={quote(path)}"
    if shell.json:
        shell.emit({"url": link})
    shell.say(link)
    if not no_browser:
        click.launch(link)
