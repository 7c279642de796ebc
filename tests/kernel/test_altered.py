"""A record with other values."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import pytest

from nexus.kernel.records import Record, altered


@dataclass(frozen=True, slots=True, kw_only=True)
class Book(Record):
    """Something that is stored."""

    title: str = ""
    pages: dict[str, int] = field(default_factory=dict)


ONE = Book(id="b", project="p", created=1.0, version=3, title="one", pages={"a": 1})


def test_it_is_what_replace_makes() -> None:
    other = altered(ONE, title="two", version=4)
    assert other == replace(ONE, title="two", version=4)
    assert type(other) is Book and ONE.title == "one"
    assert other.pages is ONE.pages


def test_what_is_equal_is_the_same() -> None:
    assert altered(ONE, title="one", pages={"a": 1}) is ONE
    assert altered(ONE) is ONE


def test_a_name_that_is_no_field_is_an_error() -> None:
    with pytest.raises(AttributeError):
        altered(ONE, titel="two")
    with pytest.raises(AttributeError):
        altered(ONE, __doc__="two", titel=1)
