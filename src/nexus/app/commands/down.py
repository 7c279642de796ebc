"""`nexus down`: stop the server and the agent that `nexus up` started here."""

from __future__ import annotations

import click

from nexus.infra.shell import Shell


@click.command()
@click.pass_obj
def command(shell: Shell) -> None:
    """Stop Nexus on this machine. Runs, logs and models stay; running jobs are stopped with their agent."""
    import os
    import signal
    import time

    from nexus.app.home import Home
    from nexus.app.settings import load_settings
    from nexus.kernel.errors import UnavailableError

    home = Home(load_settings().home)
    running = home.server()
    if running is None:
        shell.say("Nexus does not run here.")
        return
    pid = int(running["pid"])
    os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + 30.0
    while home.server() is not None:
        if time.monotonic() > deadline:
            raise UnavailableError(f"process {pid} did not stop in 30 seconds", hint=f"Its log is {home.log}.")
        time.sleep(0.05)
    shell.say("Nexus is down.")
