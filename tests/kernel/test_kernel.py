"""The words everybody shares."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nexus.kernel import errors
from nexus.kernel.errors import ConflictError, FileError, NexusError, NotFoundError, UsageError
from nexus.kernel.ids import is_id, is_name, new_id, to_name
from nexus.kernel.logframes import FRAME_MAX_B, frames, parse
from nexus.kernel.registry import Registry
from nexus.kernel.units import Range, format_bytes, format_seconds, parse_bytes, parse_range, parse_seconds
from nexus.launch.model import NODE_LIFE, RUN_LIFE, TASK_LIFE


def test_every_error_has_its_own_code_and_is_drawn_in_the_tree() -> None:
    classes = errors.error_classes()
    assert len({cls.code for cls in classes}) == len(classes)
    for cls in classes:
        assert cls.__name__ in (errors.__doc__ or "")
        assert f"http {cls.status}" in (errors.__doc__ or "")
        assert 1 <= cls.exit_code <= 9
        assert 400 <= cls.status < 600


def test_an_error_survives_the_wire() -> None:
    for cls in errors.error_classes():
        sent = cls("what happened", hint="what to do", line=3)
        back = errors.from_dict(sent.as_dict(), cls.status)
        assert type(back) is cls
        assert (back.message, back.hint, back.details) == ("what happened", "what to do", {"line": 3})
    assert isinstance(errors.from_dict({}, 404), NotFoundError)
    assert type(errors.from_dict({"error": "no"}, 418)) is NexusError
    assert FileError("bad", file="a.yaml", line=3, column=7).where == "a.yaml:3:7"


@given(st.binary(min_size=8, max_size=8))
def test_ids_are_ids(entropy: bytes) -> None:
    assert is_id(new_id("run", entropy))


@given(st.text())
def test_any_text_becomes_a_name(text: str) -> None:
    assert is_name(to_name(text))


@pytest.mark.parametrize(
    ("text", "count"), [("16GiB", 16 * 2**30), ("500MB", 500_000_000), ("1k", 1000), (7, 7), ("0.5 GiB", 2**29)]
)
def test_sizes(text: str | int, count: int) -> None:
    assert parse_bytes(text) == count


@pytest.mark.parametrize(("text", "seconds"), [("2h", 7200), ("90s", 90), ("1.5d", 129600), (30, 30), ("250ms", 0.25)])
def test_durations(text: str | int, seconds: float) -> None:
    assert parse_seconds(text) == seconds


@pytest.mark.parametrize("text", ["", "GiB", "-1", "1e3", "4 apples", "٣", True, float("nan"), -2])
def test_what_is_no_size_says_so(text: str | float) -> None:
    with pytest.raises(UsageError):
        parse_bytes(text)


def test_ranges() -> None:
    assert parse_range("4..8") == Range(4, 8)
    assert parse_range("16GiB..", "bytes") == Range(16 * 2**30, None)
    assert parse_range("..8") == Range(None, 8)
    assert parse_range(4) == Range(4, None)
    assert parse_range("4..8").holds(8)
    assert not parse_range("4..8").holds(9)
    for wrong in ("..", "8..4", "a..b"):
        with pytest.raises(UsageError):
            parse_range(wrong)


def test_quantities_for_people() -> None:
    assert [format_bytes(n) for n in (0, 999, 48_000, 1_234_567, 5e15)] == [
        "0 B",
        "999 B",
        "48 KB",
        "1.23 MB",
        "5000 TB",
    ]
    assert [format_seconds(s) for s in (0.0123, 42, 200, 7500, 3600 * 76)] == [
        "12 ms",
        "42 s",
        "3m 20s",
        "2h 05m",
        "3d 4h",
    ]


@pytest.mark.parametrize("life", [RUN_LIFE, TASK_LIFE, NODE_LIFE], ids=lambda life: life.name)
def test_every_state_is_in_its_table_and_can_end(life: object) -> None:
    from nexus.kernel.lifecycle import Lifecycle

    assert isinstance(life, Lifecycle)
    assert set(life.table) == set(type(life.start).__members__.values())
    reached, todo = {life.start}, [life.start]
    while todo:
        for following in life.table[todo.pop()]:
            if following not in reached:
                reached.add(following)
                todo.append(following)
    assert reached == set(life.table)
    for final in life.final:
        with pytest.raises(ConflictError):
            life.move(final, life.start)
        assert life.move(final, final) == final
    assert life.diagram().startswith("stateDiagram-v2")


def test_a_registry_answers_a_wrong_name_with_the_right_ones() -> None:
    registry: Registry[object] = Registry("nexus.test", {"join": "os.path:join", "split": "os.path:split"})
    import os

    assert registry.get("join") is os.path.join
    assert "split" in registry
    with pytest.raises(NotFoundError) as caught:
        registry.get("jion")
    assert "Did you mean join?" in caught.value.hint


@given(st.binary(max_size=300_000).filter(lambda line: b"\n" not in line))
def test_a_line_of_any_length_comes_back_whole(line: bytes) -> None:
    made = list(frames(1763982170123, "out", line))
    assert all(len(one) <= FRAME_MAX_B and one.endswith(b"\n") and one.count(b"\n") == 1 for one in made)
    assert b"".join(one[16:-1] for one in made) == line
    read = [parse(one[:-1]) for one in made]
    assert [one.whole for one in read] == [False] * (len(made) - 1) + [True]
    assert {one.at_ms for one in read} == {1763982170123}


@given(st.binary(max_size=200))
def test_damaged_frames_are_still_lines(raw: bytes) -> None:
    assert parse(raw).stream in {"out", "err", "nexus"}


@pytest.mark.parametrize(
    "error", [{"details": {"message": "x", "hint": "y", "self": 1, "field": 2}}, {"code": ["usage"]}, {"message": None}]
)
def test_an_odd_answer_is_an_error_of_the_tree_too(error: dict[str, object]) -> None:
    rebuilt = errors.from_dict({"error": error}, 400)
    assert type(rebuilt) is UsageError
    assert rebuilt.details.get("field") == (2 if "details" in error else None)
