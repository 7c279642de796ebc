"""`nexus audit`: who did what, and proof that nobody has changed the record since."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING

import click

from nexus.infra.shell import Shell

if TYPE_CHECKING:
    from nexus.kernel.events import Event


@click.group(invoke_without_command=True)
@click.option("--subject", metavar="ID", help="Only what happened to this run, node, token, user or secret.")
@click.option("--actor", metavar="NAME", help="Only what this user, node or run did.")
@click.option("--since", metavar="DURATION", help="Only what is newer, such as 2h or 7d.")
@click.option("--all", "everywhere", is_flag=True, help="Of every project; for the server's owners.")
@click.option("-n", "--limit", type=click.IntRange(1, 1000), default=100, show_default=True)
@click.pass_context
def command(
    ctx: click.Context, subject: str | None, actor: str | None, since: str | None, everywhere: bool, limit: int
) -> None:
    """What happened in the project, newest last: who did it, from where. For admins."""
    if ctx.invoked_subcommand is not None:
        return
    from nexus.access.faces.client import AccessClient
    from nexus.kernel.units import format_time, parse_seconds

    shell: Shell = ctx.obj
    after = time.time() - parse_seconds(since) if since else None  # noqa: TID251 (a face: what a person means by "2h")
    client = AccessClient(shell.http)
    found = client.audit(subject=subject, actor=actor, since=after, everywhere=everywhere, limit=limit)[::-1]
    if shell.json:
        shell.emit(found)
        return
    rows = [(format_time(one.at), one.actor, str(one.data.get("from", "")), one.kind, _about(one)) for one in found]
    shell.table(("WHEN", "WHO", "FROM", "WHAT", "OF"), rows, empty="Nothing.")


def _about(event: Event) -> str:
    shown = {
        name: value for name, value in event.data.items() if name not in {"from", "with"} and value not in {None, ""}
    }
    return " ".join([event.subject, *(f"{name}={value}" for name, value in shown.items())]).strip()


@command.command()
@click.option("--expect", default="", metavar="DIGEST", help="One that was printed earlier: it must still be there.")
@click.pass_obj
def verify(shell: Shell, expect: str) -> None:
    """Walk the whole chain of events: each must fit the one before. Exits with 1 where it is broken. For owners.

    Keep the printed digest elsewhere: with --expect it shows later that the end was not cut off and written anew.
    """
    from nexus.access.faces.client import AccessClient

    found = AccessClient(shell.http).verify(expect)
    if shell.json:
        shell.emit(found)
    shell.say(f"{found.events} events are chained, up to {found.head or 'none'}.")
    if found.unchained:
        shell.say(f"{found.unchained} older events were written before there was a chain.")
    if found.broken is not None:
        shell.note(f"error: event {found.broken} was changed, or one before it is missing.")
    elif not found.expected:
        shell.note("error: the expected digest is not in the chain: its end was cut off, or it is another server's.")
    sys.exit(1 if found.broken is not None or not found.expected else 0)
