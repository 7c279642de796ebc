"""Settings come from defaults, then the file, then the environment, then the command line."""

from __future__ import annotations

from pathlib import Path

import pytest

from nexus.app.settings import as_environment, load_settings
from nexus.kernel.errors import FileError, UsageError


def test_later_sources_win(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text('port = 1\ngateway_port = 2\nlease = "2m"\nheartbeat = 3\n')
    found = load_settings(
        {"NEXUS_HOME": str(tmp_path), "NEXUS_GATEWAY_PORT": "20", "NEXUS_AGENT": "no"}, heartbeat="4s"
    )
    assert (found.port, found.gateway_port, found.lease, found.heartbeat, found.agent) == (1, 20, 120.0, 4.0, False)
    assert found.database_url == f"sqlite:///{tmp_path}/nexus.db"
    assert load_settings(as_environment(found)) == found


@pytest.mark.parametrize(
    ("text", "error", "says"),
    [
        ("prot = 1", FileError, "no setting is called 'prot'"),
        ("port = ", FileError, "Invalid value"),
        ('port = "x"', UsageError, "takes a whole number"),
        ('agent = "maybe"', UsageError, "true or false"),
        ('lease = "soon"', UsageError, "not a duration"),
    ],
)
def test_a_wrong_file_says_what_is_wrong(tmp_path: Path, text: str, error: type[Exception], says: str) -> None:
    (tmp_path / "config.toml").write_text(text)
    with pytest.raises(error, match=says):
        load_settings({"NEXUS_HOME": str(tmp_path)})
