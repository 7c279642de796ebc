"""`nexus agent`: bring this machine in, work for it, and say how it stands."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

import click

from nexus.infra.shell import Shell
from nexus.kernel.errors import UsageError


def _default_home() -> Path:
    """The folder of the agent of `nexus up`, whose home NEXUS_HOME names."""
    return Path(os.environ.get("NEXUS_HOME", "~/.nexus")).expanduser().absolute() / "agent"


_home = click.option(
    "--home",
    type=click.Path(path_type=Path, file_okay=False),
    envvar="NEXUS_AGENT_HOME",
    default=_default_home,
    show_default="~/.nexus/agent",
    help="The agent's folder.",
)


@click.group()
def command() -> None:
    """This machine as a node: join a server, run the agent."""


@command.command()
@click.argument("url")
@click.argument("token", envvar="NEXUS_JOIN_TOKEN")
@click.option("--name", default="", help="The node's name; else the machine's.")
@click.option("--label", "labels", multiple=True, metavar="NAME=VALUE", help="What jobs may ask for. Repeatable.")
@click.option("--price", type=click.FloatRange(min=0), default=0.0, help="What the machine costs per hour.")
@click.option("--spot", is_flag=True, help="It may be taken away at any time.")
@click.option("--region", default="", help="Where it stands.")
@click.option("--network", default="", metavar="NAME", help="Machines of one fast network name the same.")
@click.option("--allow-shell", is_flag=True, help="Admins may work on the machine itself: nexus ssh --node NAME.")
@click.option("--require-sandbox", is_flag=True, help="Keep every task in a sandbox or container, whatever it says.")
@click.option(
    "--share",
    "shared",
    multiple=True,
    type=click.Path(path_type=Path, exists=True, resolve_path=True),
    help="A folder that tasks in a sandbox or container may read. Repeatable.",
)
@_home
@click.pass_obj
def join(
    shell: Shell,
    url: str,
    token: str,
    name: str,
    labels: tuple[str, ...],
    price: float,
    spot: bool,
    region: str,
    network: str,
    allow_shell: bool,
    require_sandbox: bool,
    shared: tuple[Path, ...],
    home: Path,
) -> None:
    """Bring this machine to the server at URL, with a one-time join TOKEN."""
    from nexus.agent import wire

    terms = wire.Terms(
        price=price,
        spot=spot,
        region=region,
        network=network,
        shell=allow_shell,
        sandbox=require_sandbox,
        share=tuple(map(str, shared)),
    )
    member = asyncio.run(wire.join(home, url, token, name=name, labels=_pairs(labels), terms=terms))
    if shell.json:
        shell.emit({"node": member.node, "name": member.name, "url": member.url})
    where = "" if home == _default_home() else f" --home {home}"
    shell.say(f"{member.name} has joined {member.url} as {member.node}. Now start the agent: nexus agent run{where}")


@command.command()
@_home
def run(home: Path) -> None:
    """Work for the server that this machine has joined, until interrupted. Tasks outlive a restart of the agent."""
    from nexus.agent.wire import membership

    membership(home)
    # The agent's own process has none of the command line's libraries: it stays small while it waits.
    os.execv(sys.executable, [sys.executable, "-m", "nexus.agent", str(home)])  # noqa: S606 (no shell is wanted)


@command.command()
@_home
@click.pass_obj
def status(shell: Shell, home: Path) -> None:
    """Say which server this machine works for, and what it runs."""
    from nexus.agent.wire import local_status

    found = local_status(home)
    if shell.json:
        shell.emit(found)
        return
    shell.say(
        f"{found.name} ({found.node}) of {found.url}: the agent is {'running' if found.running else 'not running'}"
    )
    rows = [[task.order.run_name, task.order.task, str(task.state), task.detail] for task in found.tasks]
    shell.table(("RUN", "TASK", "STATE", "DETAIL"), rows, empty="No tasks.")


def _pairs(labels: tuple[str, ...]) -> dict[str, str]:
    found = {}
    for label in labels:
        name, equals, value = label.partition("=")
        if not equals or not name:
            raise UsageError(f"{label!r} is not a label", hint="Write --label NAME=VALUE.")
        found[name] = value
    return found
