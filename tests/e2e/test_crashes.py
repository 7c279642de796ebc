"""kill -9 of the agent, of the server, of both, in the middle of a run: no log line and no run is lost."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e.house import House, until

LINES = 60
COUNTING = f"i=0; while [ $i -lt {LINES} ]; do echo line $i; i=$((i+1)); sleep 0.1; done"


def said(house: House, run: str) -> list[str]:
    """What the job itself has said so far."""
    return [line for line in house.run("logs", run, check=False).splitlines() if line.startswith("line ")]


def state(house: House, run: str) -> str:
    shown = house.json("show", run)
    return str(shown.get("run", shown)["state"])


@pytest.mark.parametrize("victims", [("agent",), ("server",), ("server", "agent")], ids="+".join)
def test_kill_9_loses_nothing(house: House, victims: tuple[str, ...]) -> None:
    house.up()
    run = house.json("launch", "--detach", "--yes", "--name", "counting", "--", "sh", "-c", COUNTING)["id"]
    until(lambda: len(said(house, run)) >= 5, "the first lines")

    if "server" in victims:
        house.kill_server()
    if "agent" in victims:
        house.kill_agent()
    if "server" in victims:
        house.up()  # an agent that died alone is started again by its server

    until(lambda: state(house, run) == "succeeded", "the run's end")
    assert said(house, run) == [f"line {n}" for n in range(LINES)]
    tasks = house.json("show", run)["tasks"]
    assert [task["attempt"] for task in tasks] == [0], "it went on; it did not start again"


def test_a_stopped_server_leaves_the_job_its_time(house: House, tmp_path: Path) -> None:
    """A job that ends while nobody listens is known, with its output, once somebody does."""
    house.up()
    mark = tmp_path / "done"
    run = house.json(
        "launch", "--detach", "--yes", "--", "sh", "-c", f"echo line 0; sleep 2; echo line 1; touch {mark}; exit 7"
    )["id"]
    until(lambda: said(house, run), "the first line")
    house.kill_server()
    house.kill_agent()
    until(mark.exists, "the job's end without anybody")
    house.up()
    until(lambda: state(house, run) == "failed", "the run's end")
    shown = house.json("show", run)
    assert shown["run"]["exit_code"] == 7
    assert said(house, run) == ["line 0", "line 1"]
