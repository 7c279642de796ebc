"""The whole house on PostgreSQL, through a kill -9 of its server."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import sqlalchemy as sa

from nexus.infra.records.sql import open_engine
from tests.e2e.house import House, until

JOB = """python - <<'END'
import nexus
nexus.param("lr", 0.1)
for step in range(50):
    nexus.log({"loss": 1.0 / (step + 1)}, step=step)
open("note.txt", "w").write("kept")
nexus.artifact("note", "note.txt")
print("said")
END
"""


def test_a_run_and_its_record_live_in_postgresql(house: House, postgres: Callable[[], str], tmp_path: Path) -> None:
    house.settings["NEXUS_DATABASE"] = postgres()
    house.up()
    work = tmp_path / "work"
    work.mkdir()
    done = house.finish("launch", "--yes", "--follow", "--name", "noted", "--", "sh", "-c", JOB, cwd=work)
    assert done.returncode == 0, done.stdout + done.stderr
    house.kill_server()
    house.up()
    assert house.json("show", "noted")["run"]["state"] == "succeeded"
    assert "said" in house.run("logs", "noted")
    curves = house.http.get("/v1/runs/noted/metrics/loss", list[dict[str, object]])
    assert len(curves) == 1
    assert "loss" in house.run("metrics", "noted")
    house.run("artifacts", "get", "noted", "note", "-o", str(tmp_path / "got"))
    assert any(file.read_text() == "kept" for file in (tmp_path / "got").rglob("*") if file.is_file())
    assert not (house.home / "nexus.db").exists()
    until(lambda: house.run("nodes"), "the nodes")


def test_a_server_that_lost_its_hold_on_the_database_ends(house: House, postgres: Callable[[], str]) -> None:
    url = house.settings["NEXUS_DATABASE"] = postgres()
    house.up(agent=False)
    engine = open_engine(url)
    with engine.connect() as connection:
        connection.execute(
            sa.text(
                "SELECT pg_terminate_backend(pid) FROM pg_locks JOIN pg_database ON database = "
                "pg_database.oid WHERE locktype = 'advisory' AND datname = current_database()"
            )
        )
    engine.dispose()
    assert house.server
    assert house.server.wait(30) == 8
    assert "lost its hold" in (house.home / "up.log").read_text()
    house.up(agent=False)  # the database is free again


def test_two_servers_on_one_database_are_refused(house: House, postgres: Callable[[], str], tmp_path: Path) -> None:
    for url in (postgres(), f"sqlite:///{tmp_path / 'shared.db'}"):
        house.settings["NEXUS_DATABASE"] = url
        house.up(agent=False)
        second = House(tmp_path / "second", settings=dict(house.settings))
        done = second.finish("up", "--no-agent")
        assert done.returncode == 5
        assert "another Nexus server works on the database" in done.stderr
        house.kill_server()
