"""What a provider asks of a host, done here: every verb may be repeated, and each is about one machine only."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from nexus.agent import host
from nexus.agent.host import Look, Move, Seen, Start
from nexus.launch.protocol import Ticket
from tests.agent.conftest import SRC
from tests.ports import free_port


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Path]:
    """An agent's home, whose agent is gone at the end."""
    home = tmp_path / "agent"
    yield home
    pid = host._pid(home)
    if pid is not None:
        os.kill(pid, signal.SIGKILL)


def started(home: Path, machine: str = "mach_1", url: str = "") -> Seen:
    """An agent that waits for a server which does not answer."""
    ticket = Ticket(
        url=url or f"http://127.0.0.1:{free_port()}", token="nx_j_secret", name="a", labels={"machine": machine}
    )
    return host.start(Start(home=str(home), machine=machine, ticket=ticket))


def test_an_agent_moves_to_another_url_and_goes_on_as_the_same_machine(place: Path) -> None:
    assert started(place).running
    first = host._pid(place)
    moved = host.move(Move(home=str(place), machine="mach_1", url="http://127.0.0.1:9"))
    assert (moved.running, moved.url) == (True, "http://127.0.0.1:9")
    assert host._pid(place) not in {None, first}
    stranger = host.move(Move(home=str(place), machine="mach_2", url="http://127.0.0.1:8"))
    assert not stranger.running
    assert host.look(Look(home=str(place), machine="mach_1")).url == "http://127.0.0.1:9"


def test_what_is_kept_on_a_host_is_its_owners_only(place: Path) -> None:
    started(place)
    for file in (place, place / "ticket.json", place / "machine", place / "process"):
        assert not file.stat().st_mode & 0o077, file
    host.stop(Look(home=str(place), machine="mach_1"))
    assert not (place / "ticket.json").exists()


def test_the_probe_says_as_which_machine_an_agent_works(place: Path) -> None:
    ask = Look(home=str(place), machine="")
    assert host.probe(ask).machine == ""
    started(place)
    found = host.probe(ask)
    assert found.machine == "mach_1"
    assert found.info.capacity.cpu >= 1


def test_errors_are_told_as_json(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    told = {"home": str(tmp_path / "file" / "home"), "machine": "mach_1"}
    ticket = {"url": "http://127.0.0.1:9", "token": "t", "name": "a"}
    done = subprocess.run(
        [sys.executable, "-m", "nexus.agent.host", "start"],
        input=msgspec.json.encode({**told, "ticket": ticket}),
        env={"PYTHONPATH": str(SRC)},
        capture_output=True,
        check=True,
    )
    assert msgspec.json.decode(done.stdout)["error"]["code"] == "limit"
