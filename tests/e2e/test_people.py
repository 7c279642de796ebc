"""Two people and two projects on one server, by the command line, as they would use it."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

from tests.e2e.house import House, until


def as_mia(house: House, home: Path, *words: str, typed: str = "") -> subprocess.CompletedProcess[str]:
    """A command on mia's own machine, which talks to the house's server only."""
    environ = {name: value for name, value in house.environ.items() if not name.startswith("NEXUS_")}
    return subprocess.run(
        [sys.executable, "-m", "nexus", *words],
        env={**environ, "NEXUS_HOME": str(home)},
        input=typed,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_a_second_person_comes_in_works_and_goes(standing: House, tmp_path: Path) -> None:
    home = tmp_path / "mia"
    token = standing.run("user", "add", "mia", "--role", "viewer").strip()
    came = as_mia(standing, home, "login", standing.url, token)
    assert "You are mia (viewer) in the project default" in came.stdout, came.stderr
    assert as_mia(standing, home, "runs").returncode == 0
    refused = as_mia(standing, home, "launch", "--yes", "--detach", "--", "true")
    assert refused.returncode == 3
    assert "role member" in refused.stderr

    standing.run("user", "role", "mia", "member")
    password = "correct horse battery staple"
    changed = as_mia(standing, home, "user", "password", "--from-file", "-", typed=password + "\n")
    assert changed.returncode == 0, changed.stderr
    again = as_mia(standing, home, "login", standing.url, "--user", "mia", typed=password + "\n")
    assert "You are mia (member)" in again.stdout, again.stderr
    launched = as_mia(standing, home, "launch", "--yes", "--follow", "--name", "hers", "--", "echo", "hi from mia")
    assert "hi from mia" in launched.stdout, launched.stderr
    assert standing.json("show", "hers")["run"]["user"] == "mia"

    gone = time.monotonic()
    standing.run("user", "remove", "mia")
    until(lambda: as_mia(standing, home, "runs").returncode == 3, "the end of mia's tokens", timeout_s=5)
    assert time.monotonic() - gone < 10


def test_projects_are_apart(standing: House) -> None:
    standing.run("launch", "--yes", "--follow", "--name", "in-default", "--", "true")
    standing.run("project", "create", "vision")
    standing.run("project", "use", "vision")
    try:
        assert "in-default" not in standing.run("runs")
        assert "in-default" in standing.run("--project", "default", "runs")
        standing.finish("secret", "set", "A_NAME", "--from-file", str(standing.home / "login.json"))
        assert standing.finish("project", "remove", "default").returncode == 5
        standing.run("project", "remove", "vision")
        left = standing.finish("runs")
        assert left.returncode == 4
        assert "nexus project list" in left.stderr
        assert "default" in standing.run("project", "list")
    finally:
        standing.run("project", "use", "default")
    assert "in-default" in standing.run("runs")
    assert standing.finish("project", "create", "vision").returncode == 5


def test_a_network_is_not_offered_plain_http(house: House) -> None:
    done = house.finish("up", "--host", "0.0.0.0")
    assert done.returncode == 2
    assert "--plain-http" in done.stderr
    house.settings |= {"NEXUS_HOST": "0.0.0.0", "NEXUS_PLAIN_HTTP": "true"}
    assert "Nexus is up" in house.run("up", "--detach")
    house.run("down")
