"""`nexus token`: make, list and revoke tokens; let a machine join."""

from __future__ import annotations

from urllib.parse import urlsplit

import click

from nexus.infra.shell import Shell


@click.group()
def command() -> None:
    """Make, list and revoke tokens."""


@command.command()
@click.argument("name")
@click.option("--role", type=click.Choice(["viewer", "member", "admin"]), default="member", show_default=True)
@click.option("--expires", metavar="DURATION", help="Such as 30d; never when left out.")
@click.pass_obj
def create(shell: Shell, name: str, role: str, expires: str | None) -> None:
    """Make a token called NAME and show its secret, once."""
    from nexus.access.faces.client import AccessClient
    from nexus.kernel.identity import Role
    from nexus.kernel.units import parse_seconds

    made = AccessClient(shell.http).create(name, Role(role), parse_seconds(expires) if expires else None)
    if shell.json:
        shell.emit(made)
        return
    shell.say(made.secret)
    shell.note(f"Keep it: it is not shown again. Use it with: nexus login {shell.http.url} TOKEN")


@command.command()
@click.pass_obj
def show(shell: Shell) -> None:
    """Print the token that commands use here, for other programs: curl, the openai client."""
    if shell.json:
        shell.emit({"url": shell.http.url, "token": shell.http.token})
        return
    shell.say(shell.http.token)


@command.command("list")
@click.pass_obj
def list_tokens(shell: Shell) -> None:
    """List the project's tokens."""
    from nexus.access.faces.client import AccessClient

    found = AccessClient(shell.http).tokens()
    if shell.json:
        shell.emit(found)
        return
    rows = [
        (token.id[:12], token.purpose, token.subject, token.role, "revoked" if token.revoked else "works")
        for token in found
    ]
    shell.table(("ID", "PURPOSE", "WHO", "ROLE", "STATE"), rows, empty="No tokens.")


@command.command()
@click.argument("token_id")
@click.pass_obj
def revoke(shell: Shell, token_id: str) -> None:
    """Revoke the token whose id starts with TOKEN_ID."""
    from nexus.access.faces.client import AccessClient
    from nexus.kernel.errors import NotFoundError, UsageError

    client = AccessClient(shell.http)
    found = [token for token in client.tokens() if token.id.startswith(token_id)]
    if not found:
        raise NotFoundError(f"no such token: {token_id}", hint="`nexus token list` shows their ids.")
    if len(found) > 1:
        raise UsageError(f"{len(found)} tokens start with {token_id!r}", hint="Write more of the id.")
    revoked = client.revoke(found[0].id)
    if shell.json:
        shell.emit(revoked)
    shell.say(f"Revoked the token of {revoked.subject}.")


@command.command()
@click.pass_obj
def join(shell: Shell) -> None:
    """Make a one-time token with which another machine may join, and say the command to run there."""
    from nexus.access.faces.client import AccessClient

    made = AccessClient(shell.http).join_token()
    if shell.json:
        shell.emit(made)
        return
    shell.say(f"nexus agent join {shell.http.url} {made.secret}")
    shell.note("Run this on the machine, within ten minutes. It works once.")
    if urlsplit(shell.http.url).hostname in {"127.0.0.1", "localhost", "::1"}:
        shell.note("On another machine write this one's name in the place of the host; the server must listen there.")
