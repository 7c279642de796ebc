"""How pages say things."""

from __future__ import annotations

from nexus.studio.words import weight


def test_what_people_look_for_comes_first() -> None:
    keys = ["federate/accepted", "federate/accuracy", "bytes_up", "train/loss", "zeta"]
    assert sorted(keys, key=weight) == ["federate/accuracy", "train/loss", "bytes_up", "federate/accepted", "zeta"]
