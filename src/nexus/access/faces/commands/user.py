"""`nexus user`: the people of a server."""

from __future__ import annotations

from typing import IO

import click

from nexus.infra.shell import Shell

_ROLES = ("viewer", "member", "admin")


@click.group()
def command() -> None:
    """Users: add, list, remove; roles and passwords."""


@command.command()
@click.argument("name")
@click.option("--role", type=click.Choice(_ROLES), default="member", show_default=True, help="In this project.")
@click.option("--owner", is_flag=True, help="Manages users and projects, and is an admin of each.")
@click.pass_obj
def add(shell: Shell, name: str, role: str, owner: bool) -> None:
    """Add a user called NAME to the project, and show the token with which they begin, once."""
    from nexus.access.faces.client import AccessClient
    from nexus.kernel.identity import Role

    made = AccessClient(shell.http).add_user(name, Role(role), owner=owner)
    if shell.json:
        shell.emit(made)
        return
    shell.say(made.token.secret)
    shell.note(f"Give it to {name}; it is not shown again: nexus login {shell.http.url} TOKEN")
    shell.note(f"For a log-in by password: nexus user password {name}")


@command.command("list")
@click.pass_obj
def list_users(shell: Shell) -> None:
    """List the server's users. For its owners."""
    from nexus.access.faces.client import AccessClient

    found = AccessClient(shell.http).users()
    if shell.json:
        shell.emit(found)
        return
    rows = [
        (
            one.name,
            "owner" if one.owner else "",
            "yes" if one.has_password else "no",
            ", ".join(f"{project}: {role}" for project, role in sorted(one.roles.items())),
        )
        for one in found
    ]
    shell.table(("USER", "OWNER", "PASSWORD", "ROLES"), rows, empty="No users.")


@command.command()
@click.argument("name")
@click.pass_obj
def remove(shell: Shell, name: str) -> None:
    """Remove the user NAME: their tokens and sessions stop working within seconds. Their runs go on."""
    from nexus.access.faces.client import AccessClient

    gone = AccessClient(shell.http).remove_user(name)
    if shell.json:
        shell.emit(gone)
    shell.say(f"{gone.name} is gone, with every token and session.")


@command.command()
@click.argument("name")
@click.argument("role", type=click.Choice([*_ROLES, "none"]))
@click.pass_obj
def role(shell: Shell, name: str, role: str) -> None:
    """Set what the user NAME may do in the project; `none` takes them out of it."""
    from nexus.access.faces.client import AccessClient
    from nexus.kernel.identity import Role

    AccessClient(shell.http).set_role(name, None if role == "none" else Role(role))
    if shell.json:
        shell.emit({"user": name, "role": role})
    shell.say(f"{name} is out of the project." if role == "none" else f"{name} is {role}.")


@command.command()
@click.argument("name", required=False)
@click.option("--from-file", type=click.File("r"), metavar="FILE", help="Read it there; - is standard input.")
@click.pass_obj
def password(shell: Shell, name: str | None, from_file: IO[str] | None) -> None:
    """Set a password for logging in; your own, or (for owners) that of the user NAME. Browsers must log in again."""
    from nexus.access.faces.client import AccessClient

    client = AccessClient(shell.http)
    who = name or client.me().subject
    if from_file is not None:
        given = from_file.read().rstrip("\r\n")
    else:
        given = click.prompt(f"New password of {who}", hide_input=True, confirmation_prompt=True, err=True)
    found = client.set_password(who, given)
    if shell.json:
        shell.emit(found)
    shell.say(f"{who} logs in with it: nexus login {shell.http.url} --user {who}, or on the web pages.")
