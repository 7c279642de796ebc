"""`nexus quota`: what a project may hold, and what it does."""

from __future__ import annotations

import click

from nexus.infra.shell import Shell
from nexus.kernel.units import format_bytes, parse_bytes
from nexus.launch.core.queue.views import LIMITS, QuotaRequest, QuotaView
from nexus.launch.faces.client import LaunchClient

_HEAD = ("WHAT", "HELD", "LIMIT")


@click.group(invoke_without_command=True)
@click.pass_context
def command(context: click.Context) -> None:
    """Show what the project may hold at once and spend, and what it does."""
    if context.invoked_subcommand is None:
        _show(context.obj)


@command.command()
@click.pass_obj
def show(shell: Shell) -> None:
    """The same as `nexus quota`."""
    _show(shell)


@command.command("set")
@click.option("--weight", type=float, help="Its part when there is not enough for all; 1 is usual.")
@click.option("--gpus", type=click.IntRange(0), help="Accelerators at once.")
@click.option("--cpu", type=click.FloatRange(0), help="CPUs at once.")
@click.option("--memory", metavar="SIZE", help="Memory at once, such as 256GiB.")
@click.option("--price", type=click.FloatRange(0), help="Per hour, for everything held.")
@click.option("--budget", type=click.FloatRange(0), help="Per calendar month; once it is spent nothing new starts.")
@click.option("--no-limit", type=click.Choice([*LIMITS, "memory"]), multiple=True, help="Take a limit away.")
@click.pass_obj
def change(
    shell: Shell,
    weight: float | None,
    gpus: int | None,
    cpu: float | None,
    memory: str | None,
    price: float | None,
    budget: float | None,
    no_limit: tuple[str, ...],
) -> None:
    """Set the project's limits. Only the server's owners may."""
    wanted = QuotaRequest(
        weight=weight,
        gpus=gpus,
        cpu=cpu,
        memory_b=parse_bytes(memory) if memory is not None else None,
        price=price,
        budget=budget,
        lift=tuple("memory_b" if name == "memory" else name for name in no_limit),
    )
    LaunchClient(shell.http).set_quota(wanted)
    _show(shell)


def _show(shell: Shell) -> None:
    found = LaunchClient(shell.http).quota()
    if shell.json:
        shell.emit(found)
        return
    shell.say(f"Project {found.quota.project}, weight {found.quota.weight:g}, {found.tasks} tasks")
    shell.table(_HEAD, _rows(found))


def _rows(found: QuotaView) -> list[tuple[str, ...]]:
    quota, held = found.quota, found.held
    return [
        ("gpus", f"{held.gpus}", _limit(quota.gpus, "{:g}")),
        ("cpu", f"{held.cpu:g}", _limit(quota.cpu, "{:g}")),
        ("memory", format_bytes(held.memory_b), format_bytes(quota.memory_b) if quota.memory_b is not None else "none"),
        ("price per hour", f"{held.price:.2f}", _limit(quota.price, "{:.2f}")),
        ("spent this month", f"{found.spent:.2f}", _limit(quota.budget, "{:.2f}")),
    ]


def _limit(value: float | None, form: str) -> str:
    return "none" if value is None else form.format(value)
