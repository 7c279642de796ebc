"""What may not be imported by the doors that must stay light: start-up time is imports."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = {"httpx", "pydantic", "fastapi", "sqlalchemy", "rich", "numpy", "torch", "transformers", "jinja2", "yaml"}


@pytest.mark.parametrize(
    ("door", "allowed"),
    [
        ("import nexus; nexus.log; nexus.param; nexus.artifact", set()),
        ("import nexus.app.cli as c, click; c.nexus.get_help(click.Context(c.nexus))", set()),
        (
            "from nexus.launch.faces.commands import runs; import nexus.app.connect as c; c.HttpClient('http://a', '')",
            set(),
        ),
        ("import nexus.train, nexus.federate, nexus.deploy, nexus.track, nexus.launch", set()),
    ],
    ids=["import nexus", "nexus --help", "nexus runs", "slices"],
)
def test_doors_are_light(door: str, allowed: set[str]) -> None:
    code = f"import sys; {door}; print(*sorted(name for name in sys.modules if '.' not in name))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (set(done.stdout.split()) & HEAVY) <= allowed
