"""`nexus login`: talk to a server from now on."""

from __future__ import annotations

import click

from nexus.infra.shell import Shell


@click.command()
@click.argument("url")
@click.argument("token")
@click.pass_obj
def command(shell: Shell, url: str, token: str) -> None:
    """Use the server at URL with TOKEN from now on."""
    import msgspec

    from nexus.access.faces.client import AccessClient
    from nexus.app.home import Home, write_login
    from nexus.app.settings import load_settings
    from nexus.infra.http_client import HttpClient

    me = AccessClient(HttpClient(url, token)).me()
    home = Home(load_settings().home)
    home.prepare()
    write_login(home, url, token)
    if shell.json:
        shell.emit({"url": url, **msgspec.to_builtins(me)})
    shell.say(f"You are {me.subject} ({me.role}) in the project {me.project} at {url}.")
