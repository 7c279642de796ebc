"""`nexus chat` on a machine without an engine."""

from __future__ import annotations

import importlib.util

import pytest

from nexus.deploy.faces.commands.chat import _need_engine
from nexus.kernel.errors import MissingError


def test_what_is_missing_is_said_before_anything_is_deployed(monkeypatch: pytest.MonkeyPatch) -> None:
    _need_engine("http://127.0.0.1:7717")  # the tests' own environment has llama.cpp
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(MissingError, match="not installed here") as caught:
        _need_engine("http://127.0.0.1:7717")
    assert "make setup" in caught.value.hint
    _need_engine("http://gpu.example:7717")  # what another machine has, it says itself
