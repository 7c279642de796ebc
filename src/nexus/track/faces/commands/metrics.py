"""`nexus metrics`: a run's numbers in the terminal."""

from __future__ import annotations

import math
from collections.abc import Sequence

import click

from nexus.infra.shell import Shell
from nexus.track.faces.bodies import curve_bodies, summary_body
from nexus.track.faces.client import TrackClient
from nexus.track.service.metrics import Curve

_BARS = "▁▂▃▄▅▆▇█"
_WIDTH = 40


@click.command()
@click.argument("run")
@click.argument("key", required=False)
@click.option("-w", "--width", type=click.IntRange(8, 400), default=_WIDTH, show_default=True, help="Of the curve.")
@click.pass_obj
def command(shell: Shell, run: str, key: str | None, width: int) -> None:
    """Show what RUN has logged: every key with its curve and last value, or the curves of one KEY.

    With --json and a KEY, all its points (thinned to 1,500) are printed.
    """
    client = TrackClient(shell.http)
    if shell.json:
        shell.emit(curve_bodies(client.chart(run, key)) if key else summary_body(client.metrics(run)))
        return
    summary = client.metrics(run)
    keys = [key] if key else sorted({series.key for series in summary.series})
    rows = [_row(curve, width) for name in keys for curve in client.chart(run, name, points=4 * width)]
    shell.table(
        ("KEY", "TASK", "CURVE", "LAST", "LOW", "HIGH", "STEP", "POINTS"), rows, empty="Nothing was logged yet."
    )
    if not key and summary.params:
        shell.say()
        shell.table(("PARAMETER", "VALUE"), [(name, str(value)) for name, value in summary.params.items()])


def _row(curve: Curve, width: int) -> Sequence[str]:
    series = curve.series
    task = f"{series.role}/{series.index}" + (f" attempt {series.attempt}" if series.attempt else "")
    numbers = [f"{value:.5g}" for value in (series.value, series.low, series.high)]
    return (series.key, task, sparkline(list(curve.points.values), width), *numbers, str(series.step), str(series.n))


def sparkline(values: Sequence[float], width: int) -> str:
    """`values` as at most `width` bars between their least and greatest; a gap where there is no number."""
    stretches = min(width, len(values))
    means = []
    for i in range(stretches):
        part = values[i * len(values) // stretches : (i + 1) * len(values) // stretches]
        finite = [value for value in part if math.isfinite(value)]
        means.append(sum(finite) / len(finite) if finite else math.nan)
    known = [mean for mean in means if not math.isnan(mean)]
    if not known:
        return " " * stretches
    low, span = min(known), max(known) - min(known)
    top = len(_BARS) - 1
    return "".join(
        " " if math.isnan(mean) else _BARS[round((mean - low) / span * top) if span else 0] for mean in means
    )
