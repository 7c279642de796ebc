"""`nexus down`: stop the server and the agent that `nexus up` started here."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from nexus.infra.shell import Shell

if TYPE_CHECKING:
    from nexus.app.home import Home


@click.command()
@click.option(
    "--stop-runs/--keep-runs",
    default=None,
    help="Whether live runs are stopped too, or go on alone until the next `up`.  [default: ask; keep]",
)
@click.pass_obj
def command(shell: Shell, stop_runs: bool | None) -> None:
    """Stop Nexus on this machine. What it keeps (runs, logs, models) stays."""
    from nexus.app.home import Home
    from nexus.app.settings import load_settings
    from nexus.kernel.units import format_seconds

    settings = load_settings()
    home = Home(settings.home)
    running = home.server()
    if running is None:
        if shell.json:
            shell.emit({"stopped": None, "live": []})
        shell.say("Nexus does not run here.")
        return
    live = _live_runs(settings.url, (home.login() or {}).get("token", ""))
    if live and stop_runs is None:
        stop_runs = (
            shell.is_tty
            and not shell.json
            and click.confirm(f"{_count(live)} still live. Stop them too?", default=False)
        )
    if live and stop_runs:
        _stop(settings.url, (home.login() or {})["token"], live)
    _end(home, int(running["pid"]))
    if shell.json:
        shell.emit({"stopped": running["url"], "live": [] if stop_runs else live})
        return
    shell.say("Nexus is down.")
    if live and not stop_runs:
        lease = format_seconds(settings.lease)
        shell.note(f"{_count(live)} still live: found again by `nexus up` within {lease}, else ended by their lease.")


def _count(live: list[str]) -> str:
    return f"{len(live)} run{'s are' if len(live) > 1 else ' is'}"


def _live_runs(url: str, token: str) -> list[str]:
    """The ids of runs that have not ended; none when the server does not say."""
    from nexus.infra.http_client import HttpClient
    from nexus.kernel.errors import NexusError
    from nexus.launch.faces.client import LaunchClient
    from nexus.launch.model import RUN_LIFE

    http = HttpClient(url, token, timeout_s=5.0)
    try:
        runs = LaunchClient(http)
        return [run.id for state in RUN_LIFE.live for run in runs.page(state=str(state)).runs]
    except NexusError:
        return []
    finally:
        http.close()


def _stop(url: str, token: str, live: list[str]) -> None:
    """Delete the endpoints (they would start their runs again), stop the runs, and wait for their end."""
    from nexus.deploy.faces.client import DeployClient
    from nexus.infra.http_client import HttpClient
    from nexus.launch.faces.client import LaunchClient

    http = HttpClient(url, token)
    endpoints = DeployClient(http)
    for endpoint in endpoints.list():
        endpoints.delete(endpoint.name)
    runs = LaunchClient(http)
    for run in live:
        runs.stop(run)
    for run in live:
        for _ in runs.follow(run):
            pass
    http.close()


def _end(home: Home, pid: int) -> None:
    """Ask the server's process to end, and wait until it has. Raises UnavailableError after a minute."""
    import os
    import signal
    import time

    from nexus.kernel.errors import UnavailableError

    os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + 60.0
    while home.server() is not None:
        if time.monotonic() > deadline:
            raise UnavailableError(f"process {pid} did not stop in 60 seconds", hint=f"Its log is {home.log}.")
        time.sleep(0.05)
