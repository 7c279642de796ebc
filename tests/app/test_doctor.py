"""`nexus doctor`: it finds what is in the way and says what to do; what is only absent is no fault."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from nexus.app import doctor
from nexus.app.cli import main
from nexus.app.doctor import State, examine
from nexus.app.home import Home, write_login
from nexus.app.settings import Settings
from tests.ports import free_port


def found(settings: Settings, name: str) -> list[doctor.Finding]:
    return [finding for finding in examine(settings) if finding.name == name]


def test_a_machine_without_anything_is_no_broken_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("NEXUS_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("NEXUS_PORT", str(free_port()))
    monkeypatch.setattr(doctor, "find_spec", lambda _: None)
    main(["doctor", "--json"])
    findings = {one["name"]: one for one in json.loads(capsys.readouterr().out)}
    assert findings["torch"]["state"] == "missing"
    assert findings["torch"]["fix"] == "pip install 'nexus[torch]'"
    assert "starts with the first launch" in findings["server"]["says"]
    assert not (tmp_path / "home").exists()  # it only looks


def test_tokens_that_others_can_read_are_in_the_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tmp_path.chmod(0o755)
    monkeypatch.setenv("NEXUS_HOME", str(tmp_path))
    monkeypatch.setenv("NEXUS_PORT", str(free_port()))
    with pytest.raises(SystemExit) as ended:
        main(["doctor"])
    assert ended.value.code == 1
    assert f"→ chmod 700 {tmp_path}" in capsys.readouterr().out


def test_a_disk_that_is_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(tmp_path)._replace(free=1_000_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    [home] = found(Settings(home=tmp_path / "home"), "home")
    assert home.state is State.BROKEN
    assert "Make room" in home.fix


def test_a_server_that_does_not_answer(tmp_path: Path) -> None:
    Home(tmp_path).prepare()
    write_login(Home(tmp_path), f"http://127.0.0.1:{free_port()}", "nx_u_nothing")
    [server] = found(Settings(home=tmp_path), "server")
    assert server.state is State.BROKEN
    assert "nexus up" in server.fix


def test_clocks_apart() -> None:
    [clock] = doctor._clock("Tue, 01 Jan 2019 00:00:00 GMT")
    assert clock.state is State.BROKEN
    assert "ahead of the server's" in clock.says
    assert not list(doctor._clock("no date"))
