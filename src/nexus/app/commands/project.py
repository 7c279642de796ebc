"""`nexus project`: which project, and who is in it. It stands here because `use` writes this machine's login file."""

from __future__ import annotations

import click

from nexus.infra.shell import Shell


@click.group()
def command() -> None:
    """Projects: create, list, use, remove, members."""


@command.command()
@click.argument("name")
@click.pass_obj
def create(shell: Shell, name: str) -> None:
    """Make an empty project called NAME. For the server's owners."""
    from nexus.access.faces.client import AccessClient

    made = AccessClient(shell.http).create_project(name)
    if shell.json:
        shell.emit(made)
    shell.say(f"{made.name} is there. Work in it from now on: nexus project use {made.name}")


@command.command("list")
@click.pass_obj
def list_projects(shell: Shell) -> None:
    """List the projects that you are in."""
    from nexus.access.faces.client import AccessClient
    from nexus.infra.http_client import HttpClient

    client = AccessClient(HttpClient(shell.http.url, shell.http.token))  # the project that is used may be gone
    found, here = client.projects(), shell.http.project or client.me().project
    if shell.json:
        shell.emit(found)
        return
    rows = [(("* " if one.name == here else "  ") + one.name, one.role) for one in found]
    shell.table(("  PROJECT", "YOU ARE"), rows, empty="No projects.")


@command.command()
@click.argument("name")
@click.pass_obj
def use(shell: Shell, name: str) -> None:
    """Work in the project NAME from now on. For one command: nexus --project NAME ..., or NEXUS_PROJECT."""
    from nexus.access.faces.client import AccessClient
    from nexus.app.home import Home, write_login
    from nexus.app.settings import load_settings
    from nexus.infra.http_client import HttpClient
    from nexus.kernel.errors import UsageError

    home = Home(load_settings().home)
    _ = shell.http  # a server that does not run yet leaves its login first
    login = home.login() or {}
    if login.get("url", "").rstrip("/") != shell.http.url or login.get("token") != shell.http.token:
        raise UsageError(
            "this command's server and token are not those of this machine's login",
            hint=f"Choose the project for each command: NEXUS_PROJECT={name}, or nexus --project {name} ...",
        )
    me = AccessClient(HttpClient(shell.http.url, shell.http.token, project=name)).me()
    write_login(home, login["url"], login["token"], me.project)
    if shell.json:
        shell.emit(me)
    shell.say(f"You are {me.subject} ({me.role}) in the project {me.project}.")


@command.command()
@click.argument("name")
@click.pass_obj
def remove(shell: Shell, name: str) -> None:
    """End the project NAME, in which nothing works any more. Its history is kept, and its name is not given again."""
    from nexus.access.faces.client import AccessClient

    gone = AccessClient(shell.http).remove_project(name)
    if shell.json:
        shell.emit(gone)
    shell.say(f"{gone.name} is gone; its history is kept.")


@command.command()
@click.pass_obj
def members(shell: Shell) -> None:
    """List who is in the project, and what they may do."""
    from nexus.access.faces.client import AccessClient

    found = AccessClient(shell.http).members()
    if shell.json:
        shell.emit(found)
        return
    rows = [(one.user, f"{one.role}, owner of the server" if one.owner else one.role) for one in found]
    shell.table(("USER", "ROLE"), rows, empty="Nobody.")
