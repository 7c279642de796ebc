"""What goes wrong says what happened and what to do next, with the right exit code, and loses nothing."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.house import House, until


def _has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


def test_a_malformed_job_file(standing: House, tmp_path: Path) -> None:
    job = tmp_path / "job.yaml"
    job.write_text("name: x\nrunn: echo hi\n")
    done = standing.finish("launch", str(job), "--yes")
    assert done.returncode == 2
    assert "job.yaml:2:1" in done.stderr
    assert "run" in done.stderr


def test_no_machine_fits_says_why_for_each(standing: House, tmp_path: Path) -> None:
    job = tmp_path / "job.yaml"
    job.write_text("name: huge\nrun: echo hi\nresources: {memory: 900TB.., gpu: H100:8}\n")
    done = standing.finish("launch", str(job), "--plan")
    assert done.returncode == 7
    assert "memory" in done.stdout + done.stderr
    assert "gpu" in (done.stdout + done.stderr).lower()


def test_setup_that_fails(standing: House, tmp_path: Path) -> None:
    job = tmp_path / "job.yaml"
    job.write_text("name: broken-setup\nsetup: |\n  echo installing\n  exit 3\nrun: echo never\n")
    done = standing.finish("launch", str(job), "--yes", "--follow")
    assert done.returncode != 0
    assert "installing" in done.stdout
    assert "never" not in done.stdout.splitlines()
    shown = standing.json("show", "broken-setup")["run"]
    assert (shown["state"], shown["cause"]) == ("failed", "setup")


def test_a_job_that_dies_by_a_signal(standing: House) -> None:
    done = standing.finish("launch", "--yes", "--follow", "--name", "dies", "--", "sh", "-c", "echo alive; kill -9 $$")
    assert done.returncode == 128 + signal.SIGKILL
    shown = standing.json("show", "dies")["run"]
    assert (shown["state"], shown["cause"]) == ("failed", "signal")
    assert "SIGKILL" in shown["reason"]


def test_the_exit_code_of_the_job_is_the_exit_code_of_the_command(standing: House) -> None:
    assert standing.finish("launch", "--yes", "--follow", "--", "sh", "-c", "exit 42").returncode == 42


def test_a_wrong_token(standing: House) -> None:
    environ = standing.environ | {"NEXUS_TOKEN": "nx_u_wrong"}
    done = subprocess.run(
        [sys.executable, "-m", "nexus", "runs"], env=environ, capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 3
    assert "token" in done.stderr
    assert "nexus login" in done.stderr


def test_a_port_that_is_taken(house: House) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = house.finish("up", "--port", str(port))
    assert done.returncode == 5
    assert f"port {port} is taken" in done.stderr
    assert "--port" in done.stderr


def test_the_gateways_port_is_taken(house: House) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        house.gateway_port = taken.getsockname()[1]
        done = house.finish("up")
    assert done.returncode == 5
    assert f"port {house.gateway_port} is taken" in done.stderr
    assert "NEXUS_GATEWAY_PORT" in done.stderr
    assert "is up" not in done.stdout
    assert "Traceback" not in done.stderr


def test_a_number_that_is_no_port(house: House) -> None:
    done = house.finish("up", "--port", "99999")
    assert done.returncode == 2
    assert "99999 is no port" in done.stderr


@pytest.mark.parametrize("name", ["nexus.db", "metrics.db"])
def test_a_damaged_database(house: House, name: str) -> None:
    house.home.mkdir(parents=True)
    (house.home / name).write_bytes(b"no database, " * 500)
    done = house.finish("up")
    assert done.returncode == 8
    assert name in done.stderr
    assert "backup" in done.stderr
    assert "Traceback" not in done.stderr


def test_two_who_find_no_server_start_one(house: House) -> None:
    """On a fresh home: both commands are answered, and one of their servers serves."""
    command = [sys.executable, "-m", "nexus", "--json", "runs"]
    both = [
        subprocess.Popen(command, env=house.environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    ends = [one.communicate(timeout=90) for one in both]
    try:
        assert [one.returncode for one in both] == [0, 0], ends
    finally:
        house.run("down")


def test_a_killed_servers_number_is_nobodys(house: House) -> None:
    """A process that got the number of a server that was killed is not taken for it, and not ended by `down`."""
    house.home.mkdir(parents=True)
    bystander = subprocess.Popen(["sleep", "600"])
    try:
        (house.home / "server.lock").touch()
        (house.home / "server.json").write_text(json.dumps({"pid": bystander.pid, "url": house.url}))
        assert "does not run here" in house.run("down")
        assert bystander.poll() is None
    finally:
        bystander.kill()
        bystander.wait()


@pytest.mark.skipif(not _has_ipv6(), reason="this machine has no IPv6")
def test_a_server_of_the_newer_protocol(house: House) -> None:
    """Its address has colons of its own, in the server's, the agent's and the command line's URLs."""
    house.settings["NEXUS_HOST"] = "::1"
    house.up()
    assert "hi" in house.run("launch", "--yes", "--follow", "--", "echo", "hi")


def test_a_server_that_is_away(house: House) -> None:
    environ = house.environ | {"NEXUS_TOKEN": "nx_u_any", "NEXUS_URL": "http://127.0.0.1:9"}
    done = subprocess.run(
        [sys.executable, "-m", "nexus", "runs"], env=environ, capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 8
    assert "nexus up" in done.stderr


def test_a_workspace_with_a_way_out(standing: House, tmp_path: Path) -> None:
    work = tmp_path / "work"
    work.mkdir()
    (work / "job.yaml").write_text("name: escape\nworkspace: .\nrun: cat secret\n")
    (work / "secret").symlink_to("/etc/passwd")
    done = standing.finish("launch", str(work / "job.yaml"), "--yes")
    assert done.returncode != 0
    assert "secret" in done.stderr
    assert "root:" not in done.stdout


def test_stop_ends_the_whole_process_group(standing: House, tmp_path: Path) -> None:
    mark = tmp_path / "child"
    script = f"sh -c 'echo $$ > {mark}; sleep 600' & wait"
    run = standing.json("launch", "--detach", "--yes", "--", "sh", "-c", script)["id"]
    until(lambda: mark.exists() and mark.read_text().strip(), "the child's start")
    standing.run("stop", run)
    until(lambda: standing.json("show", run)["run"]["state"] == "stopped", "the stop")
    child = int(mark.read_text())
    until(lambda: not Path(f"/proc/{child}").exists(), "the child's end")
