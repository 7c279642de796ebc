"""Jobs on hosts over ssh, with a server that only this machine reaches: real sshds, real processes, real kills."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.house import House, until
from tests.launch.providers.sshd import Sshd, needs_sshd

pytestmark = needs_sshd


@pytest.fixture
def lab(house: House, tmp_path: Path) -> Iterator[Callable[..., list[Sshd]]]:
    """Hosts in a fleet of the house, the first the cheapest; the house has no agent of its own."""
    made: list[Sshd] = []

    def new(count: int, **settings: str) -> list[Sshd]:
        house.settings |= settings
        house.up(agent=False)
        entries = []
        for number in range(1, count + 1):
            host = Sshd(tmp_path / f"h{number}")
            made.append(host)
            host.start()
            entries.append(host.entry(f"h{number}", price=number / 100))
        file = tmp_path / "hosts.yaml"
        file.write_text(json.dumps({"hosts": entries}))
        said = house.run("fleet", "add", "ssh", "lab", str(file), "--trust-new-hosts")
        assert all(f"h{number} " in said for number in range(1, count + 1))
        return made

    yield new
    house.down()
    for host in made:
        host.die()


def machines(house: House) -> dict[str, str]:
    """The fleet's, with where each stands."""
    found = house.http.get("/v1/fleets/lab", dict[str, Any])
    return {one["offer"]["machine"]: one["state"] for one in found["machines"]}


def run_of(house: House, name: str) -> Any:
    return house.http.get(f"/v1/runs/{name}", dict[str, Any])


def test_a_job_runs_on_a_fresh_host_survives_the_servers_death_and_the_host_is_given_back(
    house: House, lab: Callable[..., list[Sshd]], tmp_path: Path
) -> None:
    (host, _) = lab(2)
    gate = tmp_path / "gate"
    script = f"echo one; while [ ! -e {gate} ]; do sleep 0.05; done; echo two; echo $NEXUS_API_URL"
    house.run("launch", "-y", "--detach", "--set", "name=long", "--", "sh", "-c", script, cwd=house.home)
    until(lambda: run_of(house, "long")["state"] == "running", "the start")
    until(lambda: machines(house) == {"h1": "up"}, "the machine that is up")
    (node,) = house.http.get("/v1/nodes", list[Any])
    assert (node["node"]["provider"], node["node"]["name"], node["node"]["labels"]["fleet"]) == ("ssh", "lab-h1", "lab")
    house.kill_server()
    house.up(agent=False)
    gate.touch()
    until(lambda: run_of(house, "long")["state"] == "succeeded", "the end over a new tunnel")
    first, second, url = house.run("logs", "long").split()
    assert (first, second) == ("one", "two")
    assert url != house.url  # by the port that ssh leads back
    house.run("fleet", "remove", "lab")
    until(lambda: house.http.get("/v1/fleets", list[Any]) == [], "the fleet's end")
    assert house.http.get("/v1/nodes", list[Any]) == []
    assert not list(host.folder.glob("*/h1/machine"))


def test_a_host_that_dies_with_a_job_costs_a_retry_on_another(house: House, lab: Callable[..., list[Sshd]]) -> None:
    (first, _) = lab(2, NEXUS_LEASE="4", NEXUS_HEARTBEAT="1")
    job = ["--set", "name=short", "--set", "retry.max=2", "--set", "retry.backoff=1s..1s"]
    script = "[ $NEXUS_ATTEMPT != 0 ] || sleep 600"
    house.run("launch", "-y", "--detach", *job, "--", "sh", "-c", script, cwd=house.home)
    until(lambda: run_of(house, "short")["state"] == "running", "the first try")
    first.die()
    until(lambda: run_of(house, "short")["state"] in {"succeeded", "failed"}, "the second try")
    assert run_of(house, "short")["state"] == "succeeded"
    until(lambda: machines(house)["h2"] == "up", "the machines' loop to hear of its agent")


def test_a_fleet_that_cannot_start_says_why_where_people_look(house: House, lab: Callable[..., list[Sshd]]) -> None:
    (host,) = lab(1)
    host.die()
    assert "cannot be reached" in house.run("fleet", "show", "lab", "--fresh")
    house.run("launch", "-y", "--detach", "--set", "name=stuck", "--", "true", cwd=house.home)
    until(lambda: "h1 (127.0.0.1) cannot be reached" in run_of(house, "stuck")["reason"], "the reason")
    host.start()
    until(lambda: run_of(house, "stuck")["state"] == "succeeded", "its turn once the host is back", 90)
