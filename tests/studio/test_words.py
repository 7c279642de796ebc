"""How pages say things."""

from __future__ import annotations

from nexus.studio.words import weight


def test_what_people_look_for_comes_first() -> None:
    keys = ["federate/accepted", "federate/accuracy", "bytes_up", "train/loss", "zeta", "system/cpu"]
    expected = ["federate/accuracy", "train/loss", "bytes_up", "federate/accepted", "zeta", "system/cpu"]
    assert sorted(keys, key=weight) == expected
