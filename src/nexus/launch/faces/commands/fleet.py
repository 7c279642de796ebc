"""`nexus fleet`: machines that are started when jobs need them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from nexus.infra.clock import SystemClock
from nexus.infra.shell import Shell
from nexus.kernel.errors import FileError, UsageError
from nexus.kernel.units import format_bytes, format_seconds, parse_seconds
from nexus.launch.core.jobfile.overrides import override
from nexus.launch.core.jobfile.tree import Fields, Items, Place, read_trees, value_of
from nexus.launch.core.machines import FleetView
from nexus.launch.faces.client import LaunchClient
from nexus.launch.faces.views import FleetRequest
from nexus.launch.model import Fleet, Gpu, Machine, Offer

_HEAD = ("FLEET", "PROVIDER", "MACHINES", "CAN START", "IDLE AFTER", "SAYS")
_MACHINES_HEAD = ("MACHINE", "STATE", "SINCE", "FOR", "NODE", "SAYS")
_OFFERS_HEAD = ("CAN START", "CPU", "MEMORY", "GPU", "PRICE", "LABELS")


@click.group(invoke_without_command=True)
@click.pass_context
def command(context: click.Context) -> None:
    """List fleets; add, look at, pause or remove one.

    A fleet's machines are started when a run has no node, the cheapest first, and ended when nothing needs them.
    """
    if context.invoked_subcommand is not None:
        return
    shell: Shell = context.obj
    found = LaunchClient(shell.http).fleets()
    if shell.json:
        shell.emit(found)
        return
    empty = "No fleets. Use your hosts: nexus fleet add ssh lab hosts.yaml"
    shell.table(_HEAD, [_row(view) for view in found], empty=empty)


def _seconds(_: click.Context, __: click.Parameter, text: str | None) -> float | None:
    return None if text is None else parse_seconds(text)


@command.command()
@click.argument("provider")
@click.argument("name")
@click.argument("file", required=False, type=click.Path(path_type=Path, dir_okay=False))
@click.option("--host", "hosts", multiple=True, metavar="USER@HOST", help="One more host (ssh). Repeatable.")
@click.option("--set", "sets", multiple=True, metavar="PATH=VALUE", help="A setting beside the file's. Repeatable.")
@click.option("--idle", callback=_seconds, metavar="TIME", help="End a machine that idles so long. Default: 5m.")
@click.option("--most", type=click.IntRange(0), help="So many machines at once, and no more.")
@click.option("--trust-new-hosts", is_flag=True, help="Accept host keys not seen before, and hold to them (ssh).")
@click.pass_obj
def add(
    shell: Shell,
    provider: str,
    name: str,
    file: Path | None,
    hosts: tuple[str, ...],
    sets: tuple[str, ...],
    idle: float | None,
    most: int | None,
    trust_new_hosts: bool,
) -> None:
    """Set up the fleet NAME of PROVIDER (ssh, slurm, local), with settings from a YAML FILE; or change its settings.

    For ssh, the FILE lists hosts. Their keys and ~/.ssh/config are those of the server's user, on its machine.
    """
    settings = _settings(file, sets)
    if hosts:
        settings["hosts"] = [*settings.get("hosts", []), *hosts]
    if trust_new_hosts:
        settings["trust_new_hosts"] = True
    client = LaunchClient(shell.http)
    client.add_fleet(FleetRequest(name=name, provider=provider, settings=settings, idle_s=idle, most=most))
    _show(shell, client.fleet(name, fresh=True))


@command.command()
@click.argument("fleet")
@click.option("--fresh", is_flag=True, help="Ask its provider now, and wait for the answer.")
@click.pass_obj
def show(shell: Shell, fleet: str, fresh: bool) -> None:
    """Show FLEET's machines, and what it could start."""
    _show(shell, LaunchClient(shell.http).fleet(fleet, fresh=fresh))


@command.command()
@click.argument("fleet")
@click.option("--off", is_flag=True, help="Start machines again.")
@click.pass_obj
def pause(shell: Shell, fleet: str, off: bool) -> None:
    """Start no more machines of FLEET; those that there are go on."""
    _tell(shell, LaunchClient(shell.http).pause_fleet(fleet, paused=not off), "starts machines" if off else "is paused")


@command.command()
@click.argument("fleet")
@click.pass_obj
def remove(shell: Shell, fleet: str) -> None:
    """End FLEET's machines, each when its tasks have ended, and forget it."""
    _tell(shell, LaunchClient(shell.http).remove_fleet(fleet), "goes when its machines have ended")


def _settings(file: Path | None, sets: tuple[str, ...]) -> dict[str, Any]:
    """What a file says, and --set on top. A list is one of hosts. Raises FileError, UsageError."""
    tree = Fields(Place(1, 1))
    if file is not None:
        tree = _read(file)
    for one in sets:
        override(tree, one)
    found: dict[str, Any] = value_of(tree)
    return found


def _read(file: Path) -> Fields:
    try:
        text = file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise FileError(f"it cannot be read: {error}", hint="Is it a YAML file?", file=str(file)) from error
    trees = read_trees(text, str(file))
    if len(trees) != 1:
        raise FileError("a fleet's file is one YAML document", hint="For ssh: hosts: [gpu-1, gpu-2]", file=str(file))
    tree = trees[0]
    if isinstance(tree, Items):
        return Fields(tree.place, {"hosts": tree}, {"hosts": tree.place})
    if isinstance(tree, Fields):
        return tree
    raise UsageError(f"{file} has neither settings nor hosts", hint="For ssh: hosts: [gpu-1, gpu-2]")


def _tell(shell: Shell, fleet: Fleet, words: str) -> None:
    if shell.json:
        shell.emit(fleet)
    else:
        shell.say(f"{fleet.name} {words}")


def _show(shell: Shell, view: FleetView) -> None:
    if shell.json:
        shell.emit(view)
        return
    shell.table(_HEAD, [_row(view)])
    now = SystemClock().now()
    if view.machines:
        shell.say()
        shell.table(_MACHINES_HEAD, [_machine_row(view, machine, now) for machine in view.machines])
    shell.say()
    ready = [offer for offer in view.offers if not offer.unavailable]
    shell.table(_OFFERS_HEAD, [_offer_row(offer) for offer in ready], empty="Nothing can be started now.")
    for offer in view.offers:
        why = offer.unavailable or view.blocked.get(offer.id)
        if why:
            shell.say(f"{offer.machine}: {why}")


def _row(view: FleetView) -> tuple[str, ...]:
    fleet = view.fleet
    can = sum(offer.count or 0 for offer in view.offers if not offer.unavailable)
    unknown = any(offer.count is None for offer in view.offers if not offer.unavailable)
    most = f" of {fleet.most}" if fleet.most is not None else ""
    state = "goes" if fleet.ending else "paused" if fleet.paused else ""
    return (
        fleet.name,
        fleet.provider,
        f"{len(view.machines)}{most}",
        "?" if view.asked is None else f"{can}{' or more' if unknown else ''}",
        format_seconds(fleet.idle_s),
        "; ".join(part for part in (state, view.trouble) if part),
    )


def _machine_row(view: FleetView, machine: Machine, now: float) -> tuple[str, ...]:
    since = format_seconds(max(0.0, now - (machine.started or machine.created)))
    says = machine.reason or view.doing.get(machine.id, "")
    return (machine.offer.machine, str(machine.state), since, machine.run, machine.node, says)


def _offer_row(offer: Offer) -> tuple[str, ...]:
    labels = " ".join(f"{name}={value}" for name, value in sorted(offer.labels.items()))
    price = f"{offer.price:.2f}/h{' spot' if offer.spot else ''}" if offer.price else "free"
    count = f"{offer.count} x " if offer.count and offer.count > 1 else ""
    memory = format_bytes(offer.capacity.memory_b)
    return (count + offer.machine, f"{offer.capacity.cpu:g}", memory, _gpus(offer.capacity.gpus), price, labels)


def _gpus(gpus: tuple[Gpu, ...]) -> str:
    names = sorted({gpu.name for gpu in gpus})
    return f"{len(gpus)} {', '.join(names)}" if names else ""
