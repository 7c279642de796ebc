"""What the set-up installs: locked, complete, and without addresses of any registry."""

from __future__ import annotations

import json
import re
import subprocess
import tomllib

import pytest

from tests.studio.browsing import ROOT

PIN = re.compile(r"^([a-z0-9._-]+)==([^ ;\\]+)", re.MULTILINE)


def pins(name: str) -> dict[str, str]:
    return dict(PIN.findall((ROOT / "requirements" / name).read_text()))


def test_the_core_lock_is_a_part_of_the_full_one() -> None:
    core, full = pins("core.txt"), pins("lock.txt")
    assert core
    assert {name: full.get(name) for name in core} == core


def test_the_core_lock_holds_every_core_dependency() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    names = {re.split(r"[\[><=~! ]", line)[0] for line in project["dependencies"]}
    assert names <= pins("core.txt").keys(), "run `make lock`"


def test_the_web_lock_has_hashes_and_no_addresses() -> None:
    text = (ROOT / "package-lock.json").read_text()
    assert "://" not in text
    packages = json.loads(text)["packages"]
    assert all(one["integrity"].startswith("sha512-") for path, one in packages.items() if path)


@pytest.mark.parametrize("name", ["setup", "assets", "browser"])
def test_scripts_are_valid_shell(name: str) -> None:
    subprocess.run(["bash", "-n", ROOT / "scripts" / f"{name}.sh"], check=True)
    assert "://" not in (ROOT / "scripts" / f"{name}.sh").read_text()


def test_an_unknown_level_is_refused_with_the_next_step() -> None:
    found = subprocess.run(["bash", ROOT / "scripts/setup.sh", "half"], capture_output=True, text=True, check=False)
    assert found.returncode == 1
    assert "setup.sh core|full" in found.stderr
