"""`nexus down` ends what `nexus up` started, and says what it leaves."""

from __future__ import annotations

from pathlib import Path

from tests.e2e.house import House, until


def test_down_ends_server_and_agent_and_leaves_a_live_run(house: House, tmp_path: Path) -> None:
    house.up()
    agent = house.agent_pid()
    gate = tmp_path / "go"
    script = f"until [ -e {gate} ]; do sleep 0.05; done; echo done"
    run = house.json("launch", "--detach", "--yes", "--", "sh", "-c", script)["id"]
    until(lambda: house.json("show", run)["run"]["state"] == "running", "the run's start")
    done = house.finish("down")
    assert done.returncode == 0
    assert "1 run is still live" in done.stderr
    assert house.server
    assert house.server.wait(10) == 0
    until(lambda: not Path(f"/proc/{agent}").exists(), "the agent's end")
    gate.touch()
    house.up()
    until(lambda: house.json("show", run)["run"]["state"] == "succeeded", "the run's end")
    assert "done" in house.run("logs", run)


def test_down_can_stop_the_runs_first(house: House) -> None:
    house.up()
    run = house.json("launch", "--detach", "--yes", "--", "sleep", "600")["id"]
    until(lambda: house.json("show", run)["run"]["state"] == "running", "the run's start")
    assert "Nexus is down" in house.run("down", "--stop-runs")
    house.up(agent=False)
    assert house.json("show", run)["run"]["state"] == "stopped"
    house.run("down")
    assert "does not run here" in house.run("down")


def test_a_removed_nodes_agent_is_not_started_again_until_the_next_up(house: House) -> None:
    house.up()
    agent = house.agent_pid()
    name = house.json("nodes")[0]["node"]["name"]
    house.run("nodes", "remove", name)
    until(lambda: "agent.refused" in (house.home / "up.log").read_text(), "the agent's end")
    assert not Path(f"/proc/{agent}").exists()
    assert house.json("nodes") == []
    house.run("down")
    house.up()
    until(lambda: house.json("nodes"), "the new node")
    assert "hi" in house.run("launch", "--yes", "--follow", "--", "echo", "hi")
