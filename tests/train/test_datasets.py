"""Data from files and from packages."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from nexus.kernel.errors import NotFoundError, UnavailableError, UsageError
from nexus.train.adapters import datasets
from nexus.train.core.catalog import DATA


def silent(text: str) -> None:
    """Nobody listens."""


def test_a_file_is_known_by_its_content(tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    file.write_bytes(b'\xef\xbb\xbf{"prompt": "q", "completion": "a"}\n')  # with a byte order mark, as from Windows
    found = datasets.load_data(str(file), silent)
    assert len(found.rows.conversations) == 1
    (tmp_path / "b.jsonl").write_bytes(file.read_bytes())
    assert datasets.load_data(str(tmp_path / "b.jsonl"), silent).digest == found.digest


def test_what_is_not_there_or_no_text(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="no data"):
        datasets.load_data(str(tmp_path), silent)
    (tmp_path / "a.jsonl").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UsageError, match="not text in UTF-8"):
        datasets.load_data(str(tmp_path / "a.jsonl"), silent)


@pytest.mark.slow  # it asks the package index
def test_alpaca_comes_once_and_only_with_its_hash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NEXUS_CACHE", str(tmp_path))
    monkeypatch.setitem(DATA, "wrong", replace(DATA["alpaca-demo"], sha256="0" * 64))
    with pytest.raises(UnavailableError, match="could not fetch llamafactory"):
        datasets.load_data("wrong", silent)

    said: list[str] = []
    first = datasets.load_data("alpaca-demo", said.append)
    assert (first.rows.format, len(first.rows.conversations), first.rows.errors) == ("alpaca", 999, ())
    assert datasets.load_data("alpaca-demo", said.append) == first
    assert len(said) == 1
