"""Rows as people keep them."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nexus.kernel.errors import FileError
from nexus.train.core.conversations import read_rows, split
from nexus.train.model import Conversation, Message, RowError

ASKED, ANSWERED = Message("user", "2 + 2?"), Message("assistant", "4")


def lines(*rows: object) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


@pytest.mark.parametrize(
    ("row", "format_"),
    [
        ({"instruction": "2 + 2?", "input": "", "output": "4"}, "alpaca"),
        ({"instruction": "2 + 2?", "output": " 4 "}, "alpaca"),
        ({"messages": [{"role": "user", "content": "2 + 2?"}, {"role": "assistant", "content": "4"}]}, "messages"),
        ({"conversations": [{"from": "human", "value": "2 + 2?"}, {"from": "gpt", "value": "4"}]}, "sharegpt"),
        ({"prompt": "2 + 2?", "completion": "4"}, "prompt-completion"),
        ({"question": "2 + 2?", "answer": "4", "id": 7}, "prompt-completion"),
    ],
)
def test_every_format_means_the_same(row: dict[str, object], format_: str) -> None:
    found = read_rows(lines(row), "rows.jsonl")
    assert (found.format, found.errors) == (format_, ())
    assert found.conversations == (Conversation((ASKED, ANSWERED), 1),)
    assert read_rows(json.dumps([row], indent=1), "rows.json").conversations == (Conversation((ASKED, ANSWERED), 2),)


def test_alpaca_has_an_input() -> None:
    found = read_rows(lines({"instruction": "Translate", "input": "Hund", "output": "dog"}), "rows.jsonl")
    assert found.conversations[0].messages[0].content == "Translate\nHund"


def test_csv_rows_know_their_lines() -> None:
    found = read_rows('prompt,completion\n"a\nb",1\nc,2\n', "rows.csv")
    assert [(one.line, one.messages[0].content) for one in found.conversations] == [(3, "a\nb"), (4, "c")]


def test_bad_rows_are_named_and_left_out() -> None:
    good = [{"prompt": f"q{number}", "completion": "a"} for number in range(60)]
    text = lines(*good[:10]) + "{broken\n" + lines(*good[10:], {"prompt": "q", "completion": 3}, {"prompt": "q"})
    found = read_rows(text, "rows.jsonl")
    assert len(found.conversations) == 60
    assert [error.line for error in found.errors] == [11, 62, 63]
    assert found.errors[0].reason.startswith("it is not JSON")
    assert found.errors[1:] == (RowError(62, "completion is not text"), RowError(63, "completion is missing"))


@pytest.mark.parametrize(
    ("text", "name", "line", "says"),
    [
        (
            lines({"prompt": "q", "completion": "a"}, {"prompt": "q", "completion": " "}),
            "r.jsonl",
            2,
            "completion is empty",
        ),
        (lines({"text": "hello"}), "r.jsonl", 1, "no known format: the first has text"),
        ("", "r.jsonl", 1, "there is none"),
        ("{}", "r.json", None, "not a list"),
        ('[{"prompt": "q",\n"completion": "a"},\n{oops}]', "r.json", 3, "not JSON"),
        ('[{"prompt": "q", "completion": "a"}', "r.json", 1, "does not end"),
        ("x", "r.parquet", None, "no kind of data"),
        (lines({"messages": [{"role": "user", "content": "hi"}]}), "r.jsonl", 1, "does not end with an answer"),
        (lines({"messages": [{"role": "boss", "content": "hi"}]}), "r.jsonl", 1, "role is 'boss'"),
        (lines({"messages": [{"role": "assistant", "content": "hi"}]}), "r.jsonl", 1, "do not alternate"),
    ],
)
def test_what_cannot_be_used_says_where_and_why(text: str, name: str, line: int | None, says: str) -> None:
    with pytest.raises(FileError, match=says) as caught:
        read_rows(text, name)
    assert caught.value.details.get("line") == line
    assert caught.value.details["file"] == name
    assert caught.value.hint


def test_held_out_rows_are_never_trained_on() -> None:
    rows = [Conversation((Message("user", str(number // 2)), ANSWERED), number) for number in range(200)]  # all twice
    train, held_out = split(rows, 10, seed=3)
    assert (len(train), len(held_out)) == (90, 10)
    assert not {row.messages for row in train} & {row.messages for row in held_out}
    assert split(rows, 10, seed=3) == (train, held_out)
    assert split(rows, 10, seed=4) != (train, held_out)
    with pytest.raises(FileError, match="fewer than two"):
        split(rows[:2], 10, seed=3)


@settings(deadline=None)  # a busy machine is no error
@given(
    st.lists(st.one_of(st.none(), st.integers(), st.text(max_size=5), st.dictionaries(st.text(max_size=9), st.text())))
)
def test_no_json_breaks_the_reader(rows: list[object]) -> None:
    for text, name in ((lines(*rows), "r.jsonl"), (json.dumps(rows), "r.json")):
        try:
            found = read_rows(text, name)
        except FileError:
            continue
        assert found.conversations
