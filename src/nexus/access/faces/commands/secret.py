"""`nexus secret`: values go in by a file, a pipe or a prompt, never as a word of a command line; none comes out."""

from __future__ import annotations

import sys
from typing import IO

import click

from nexus.infra.shell import Shell


@click.group()
def command() -> None:
    """Values that only tasks see, such as HF_TOKEN."""


@command.command("set")
@click.argument("name")
@click.option("--from-file", type=click.File("rb"), metavar="FILE", help="Read it there, as it stands; - is a pipe.")
@click.pass_obj
def put(shell: Shell, name: str, from_file: IO[bytes] | None) -> None:
    """Keep a value for the project under NAME. Jobs that list NAME in `secrets` find it in the variable NAME.

    It is asked for, or read from standard input where that is no terminal; one line end at its end does not count.
    """
    from nexus.access.faces.client import AccessClient

    kept = AccessClient(shell.http).set_secret(name, _value(name, from_file.read() if from_file else None))
    if shell.json:
        shell.emit(kept)
    shell.say(f"{kept.name} is kept. In a job file: secrets: [{kept.name}]")


def _value(name: str, content: bytes | None) -> str:
    """Raises UsageError for what is no text."""
    from nexus.kernel.errors import UsageError

    try:
        if content is not None:
            return content.decode()
        if sys.stdin.isatty():
            return str(click.prompt(f"Value of {name}", hide_input=True, err=True))
        return sys.stdin.buffer.read().decode().removesuffix("\n").removesuffix("\r")
    except UnicodeDecodeError as error:
        raise UsageError(
            "the value is not UTF-8 text, and a variable holds text", hint="Encode what is binary: base64 FILE | ..."
        ) from error


@command.command("list")
@click.pass_obj
def list_names(shell: Shell) -> None:
    """List the names of the project's secrets."""
    from nexus.access.faces.client import AccessClient
    from nexus.kernel.units import format_time

    found = AccessClient(shell.http).secrets()
    if shell.json:
        shell.emit(found)
        return
    rows = [(one.name, format_time(one.changed), one.by) for one in found]
    shell.table(("NAME", "SET", "BY"), rows, empty="No secrets. nexus secret set NAME keeps one.")


@command.command()
@click.argument("name")
@click.pass_obj
def remove(shell: Shell, name: str) -> None:
    """Forget the value of NAME. Runs that have it keep it; the next one that needs it is refused."""
    from nexus.access.faces.client import AccessClient

    gone = AccessClient(shell.http).remove_secret(name)
    if shell.json:
        shell.emit(gone)
    shell.say(f"{gone.name} is forgotten.")


@command.command()
@click.pass_obj
def rotate(shell: Shell) -> None:
    """Make a new key for the server's secrets, close every one with it, and drop the old key. For owners."""
    from nexus.access.faces.client import AccessClient

    count = AccessClient(shell.http).rotate_secrets()
    if shell.json:
        shell.emit({"count": count})
    shell.say(f"{count} secrets are closed with a new key.")
