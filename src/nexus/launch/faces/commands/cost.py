"""`nexus cost`: what was spent."""

from __future__ import annotations

import click

from nexus.infra.clock import SystemClock
from nexus.infra.shell import Shell
from nexus.kernel.units import format_seconds, parse_seconds
from nexus.launch.core.costing import By, CostReport, CostRow
from nexus.launch.faces.client import LaunchClient

_BAR = 24  # characters of the dearest line's bar
_EIGHTHS = " ▏▎▍▌▋▊▉"


@click.command()
@click.option("--by", type=click.Choice([str(by) for by in By]), default="run", show_default=True, help="A line each.")
@click.option("--since", default="30d", show_default=True, metavar="TIME", help="So long ago: 24h, 7d, or ever.")
@click.option("-n", "--limit", type=click.IntRange(1, 1000), default=20, show_default=True, help="Lines at most.")
@click.pass_obj
def command(shell: Shell, by: str, since: str, limit: int) -> None:
    """Show what runs cost: the price of what they held, for the seconds that they held it.

    Prices are what nodes and fleets say (nexus agent join --price). Time in which a fleet's machines were paid for and
    held by nobody is shown as idle. Days are in UTC; --by project shows all projects to the server's owners.
    """
    begin = 0.0 if since == "ever" else max(0.0, SystemClock().now() - parse_seconds(since))
    report = LaunchClient(shell.http).costs(by=by, since=begin, limit=limit)
    if shell.json:
        shell.emit(report)
        return
    shell.table(*bill_table(report), empty=nothing(since))
    if report.total:
        shell.say(f"{report.total:.2f}{_window(since)}")


def nothing(since: str) -> str:
    """What to say when nothing was spent."""
    return f"Nothing was spent{_window(since)}: no run held a machine with a price (nexus agent join --price)."


def _window(since: str) -> str:
    return "" if since == "ever" else f" in the last {since}"


def bill_table(report: CostReport) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Head and rows; the rest and idle time stand below the lines."""
    has_user = report.by is By.RUN
    most = max([row.cost for row in report.rows] + [one.cost for one in report.idle], default=0.0)
    head = (str(report.by).upper(), *(("USER",) if has_user else ()), "TASKS", "HELD", "COST", "")
    rows = [_line(row, most, has_user=has_user) for row in report.rows]
    if report.rest is not None:
        rows.append(_line(report.rest, 0.0, has_user=has_user))
    blank = ("",) if has_user else ()
    rows += [(f"idle: {one.fleet}", *blank, "", "", f"{one.cost:.2f}", bar(one.cost, most)) for one in report.idle]
    return head, rows


def _line(row: CostRow, most: float, *, has_user: bool) -> tuple[str, ...]:
    user = (row.user,) if has_user else ()
    return (row.label, *user, str(row.tasks), format_seconds(row.seconds), _money(row.cost), bar(row.cost, most))


def _money(cost: float) -> str:
    return f"{cost:.2f}" if cost >= 0.1 or not cost else f"{cost:.4f}"


def bar(value: float, most: float) -> str:
    """As long as `value` is of `most`, to an eighth of a character."""
    eighths = round(value / most * _BAR * 8) if most else 0
    return ("█" * (eighths // 8) + _EIGHTHS[eighths % 8]).rstrip()
