"""How a command finds its server: --url or NEXUS_URL, then `nexus login`, then the embedded one, started if need be."""

from __future__ import annotations

import os
import subprocess
import sys
import time

from nexus.app.home import Home
from nexus.app.settings import Settings, as_environment, load_settings
from nexus.infra.http_client import HttpClient
from nexus.kernel.errors import DeniedError, UnavailableError

_START_S = 60.0


def connect(url: str | None = None, project: str | None = None) -> HttpClient:
    """The server that this command talks to, and the project in which it does.

    The project is the one given, or NEXUS_PROJECT, or that of `nexus project use`, or the token's own. Raises
    DeniedError, UnavailableError.
    """
    settings = load_settings()
    home = Home(settings.home)
    login = home.login() or {}
    token = os.environ.get("NEXUS_TOKEN") or login.get("token", "")
    if url and url.rstrip("/") != login.get("url", "").rstrip("/"):
        token = os.environ.get("NEXUS_TOKEN", "")
        if not token:
            raise DeniedError(f"no token for {url}", hint=f"Set NEXUS_TOKEN, or: nexus login {url} TOKEN")
    target = url or login.get("url") or settings.url
    if not url and target == settings.url and home.server() is None:
        start_background(settings)
        token = token or (home.login() or {}).get("token", "")
    is_known = target.rstrip("/") == login.get("url", "").rstrip("/") and not os.environ.get("NEXUS_TOKEN")
    used = login.get("project", "") if is_known else ""  # another token need not know that project
    return HttpClient(target, token, project=project or os.environ.get("NEXUS_PROJECT") or used)


def running(settings: Settings, timeout_s: float) -> HttpClient | None:
    """The server that commands talk to, as this home's login; None when it is this home's own and not up.

    Starts nothing.
    """
    home = Home(settings.home)
    login = home.login()
    if login is None or (login["url"] == settings.url and home.server() is None):
        return None
    return HttpClient(login["url"], login["token"], timeout_s=timeout_s)


def start_background(settings: Settings) -> None:
    """Start `nexus up` in the background and wait until it answers. Raises UnavailableError with its last words."""
    home = Home(settings.home)
    home.prepare()
    sys.stderr.write(f"Starting Nexus at {settings.url} (stop it with: nexus down)\n")
    before = home.log.stat().st_size if home.log.exists() else 0
    with home.log.open("ab") as log:
        server = subprocess.Popen(
            [sys.executable, "-m", "nexus", "up"],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            env={**os.environ, **as_environment(settings)},
        )
    wait_until_up(settings, server, before)


def wait_until_up(settings: Settings, server: subprocess.Popen[bytes], log_start: int = 0) -> None:
    """Poll until a server of this home answers (ours, or one that somebody started at the same moment)."""
    home = Home(settings.home)
    deadline = time.monotonic() + _START_S
    while time.monotonic() < deadline:
        if home.server() is not None and _answers(settings.url):
            return
        if server.poll() is not None and not home.is_taken():
            break
        time.sleep(0.05)
    words = home.log.read_bytes()[log_start:].decode("utf-8", "replace").strip().splitlines()
    errors = [line.removeprefix("error: ") for line in words if line.startswith("error: ")] or words[-1:]
    said = f": {errors[-1]}" if errors else ""
    raise UnavailableError(f"the server did not start{said}", hint=f"Its log is {home.log}.")


def _answers(url: str) -> bool:
    client = HttpClient(url, "", timeout_s=2.0)
    try:
        client.get("/healthz", dict[str, str])
    except UnavailableError:
        return False
    finally:
        client.close()
    return True
