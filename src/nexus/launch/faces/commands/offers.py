"""`nexus offers`: machines that could be rented or started."""

from __future__ import annotations

import click

from nexus.infra.http_client import decoded
from nexus.infra.shell import Shell
from nexus.launch.faces.client import LaunchClient
from nexus.launch.faces.planview import price_notes
from nexus.launch.faces.words import OFFERS_HEAD, offer_row
from nexus.launch.model import PriceNote

_PATIENCE_S = 300.0  # many clouds' lists are fetched


@click.group(invoke_without_command=True)
@click.option("--gpu", default="", metavar="NAME[:COUNT]", help="Accelerators of one machine, as in a job file.")
@click.option("--cpu", default="", metavar="N..", help="Processor cores.")
@click.option("--memory", default="", metavar="SIZE..", help="Memory, such as 64GiB.. .")
@click.option("--region", "regions", multiple=True, metavar="GLOB", help="Where, such as 'eu-*'. Repeatable.")
@click.option("--provider", "providers", multiple=True, metavar="NAME", help="Only of this one. Repeatable.")
@click.option("--spot/--no-spot", default=None, help="Only machines that may be taken away, or none of them.")
@click.option("--max-price", type=click.FloatRange(min=0), metavar="PRICE", help="Per hour, for the whole machine.")
@click.option("-n", "--limit", type=click.IntRange(1, 10_000), default=20, show_default=True, help="At most so many.")
@click.pass_context
def command(
    context: click.Context,
    gpu: str,
    cpu: str,
    memory: str,
    regions: tuple[str, ...],
    providers: tuple[str, ...],
    spot: bool | None,
    max_price: float | None,
    limit: int,
) -> None:
    """List machines that fleets could start and clouds rent out, cheapest first.

    A cloud's prices are those of a list, as old as the last line says. Without --gpu, machines that have none.
    """
    if context.invoked_subcommand is not None:
        return
    shell: Shell = context.obj
    found = LaunchClient(shell.http).offers(
        gpu=gpu,
        cpu=cpu,
        memory=memory,
        region=list(regions),
        provider=list(providers),
        spot="auto" if spot is None else "only" if spot else "never",
        max_price=max_price,
        limit=limit,
    )
    if shell.json:
        shell.emit(found)
        return
    shell.table(OFFERS_HEAD, [offer_row(offer) for offer in found.offers], empty="No offer fits.")
    if found.found > len(found.offers):
        shell.note(f"{found.found - len(found.offers)} more: --limit {found.found}")
    for line in price_notes(found.prices):
        shell.note(line)


@command.command()
@click.pass_obj
def refresh(shell: Shell) -> None:
    """Fetch today's list prices, which needs the internet, and use them from now on."""
    prices = decoded(shell.http.request("POST", "/v1/prices/refresh", timeout=_PATIENCE_S), PriceNote)
    if shell.json:
        shell.emit(prices)
        return
    shell.say(f"{prices.rows} prices of {', '.join(name for one in prices.sources for name in one.providers)}")
