"""`nexus login`: talk to a server from now on."""

from __future__ import annotations

import click

from nexus.infra.shell import Shell


@click.command()
@click.argument("url")
@click.argument("token", required=False)
@click.option("--user", metavar="NAME", help="Log in as this user; the password is asked for, or read from a pipe.")
@click.pass_obj
def command(shell: Shell, url: str, token: str | None, user: str | None) -> None:
    """Use the server at URL from now on: with TOKEN, or with a name and a password."""
    import msgspec

    from nexus.access.faces.client import AccessClient
    from nexus.app.home import Home, write_login
    from nexus.app.settings import load_settings
    from nexus.infra.http_client import HttpClient
    from nexus.kernel.errors import UsageError

    if (token is None) == (user is None):
        raise UsageError("say who you are: by a token, or by --user NAME", hint="nexus login URL TOKEN|--user NAME")
    if token is None and user is not None:
        token = AccessClient(HttpClient(url, "")).log_in(user, _password(user)).secret
    me = AccessClient(HttpClient(url, token or "")).me()
    home = Home(load_settings().home)
    home.prepare()
    write_login(home, url, token or "")
    if shell.json:
        shell.emit({"url": url, **msgspec.to_builtins(me)})
    shell.say(f"You are {me.subject} ({me.role}) in the project {me.project} at {url}.")


def _password(user: str) -> str:
    import sys

    if sys.stdin.isatty():
        return str(click.prompt(f"Password of {user}", hide_input=True, err=True))
    return sys.stdin.readline().rstrip("\r\n")
