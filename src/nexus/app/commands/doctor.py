"""`nexus doctor`: what this machine has, what is missing, and how to get it."""

from __future__ import annotations

import sys

import click

from nexus.infra.shell import Shell


@click.command()
@click.pass_obj
def command(shell: Shell) -> None:
    """Look at this machine, its home and its server, and say what is missing and how to get it.

    The exit code is 1 when something is in the way of work; what is only not installed is no fault.
    """
    from nexus.app.doctor import State, examine
    from nexus.app.settings import load_settings

    findings = examine(load_settings())
    if shell.json:
        shell.emit(findings)
    marks = {State.OK: ("ok", "green"), State.MISSING: ("-", "yellow"), State.BROKEN: ("BROKEN", "red")}
    width = max(len(finding.name) for finding in findings)
    for finding in findings:
        text, colour = marks[finding.state]
        mark = click.style(f"{text:<6}", fg=colour) if shell.has_colour else f"{text:<6}"
        shell.say(f"{mark}  {finding.name:<{width}}  {finding.says}")
        if finding.fix:
            shell.say(f"{'':<6}  {'':<{width}}  → {finding.fix}")
    if any(finding.state is State.BROKEN for finding in findings):
        sys.exit(1)
