"""What the command line makes of the words it is given, without a server."""

from __future__ import annotations

import pytest

from nexus.kernel.errors import NotFoundError, UsageError
from nexus.launch.calls import Part, failed_message, message, opened, read_exit, read_failure, read_signal, read_size
from nexus.launch.faces.calling import read_target


@pytest.mark.parametrize(
    ("text", "target"),
    [
        ("digits", ("digits", "", None)),
        ("run_0abc/worker", ("run_0abc", "worker", None)),
        ("digits/worker.12", ("digits", "worker", 12)),
        ("my.job/3", ("my.job", "", 3)),
    ],
)
def test_targets(text: str, target: tuple[str, str, int | None]) -> None:
    assert read_target(text) == target


@pytest.mark.parametrize("text", ["", "/worker", "digits/", "digits/worker.x"])
def test_words_that_name_no_task(text: str) -> None:
    with pytest.raises(UsageError, match="names no task"):
        read_target(text)


@pytest.mark.parametrize("data", [b"", b"\xff", b"\x63rest"])
def test_messages_that_are_none(data: bytes) -> None:
    with pytest.raises(UsageError):
        opened(data)


def test_parts_of_messages() -> None:
    assert opened(message(Part.OUT, b"x")) == (Part.OUT, b"x")
    for read, data in ((read_exit, b"abc"), (read_size, b""), (read_signal, b"\x00"), (read_signal, b"\xff")):
        with pytest.raises(UsageError):
            read(data)
    error = read_failure(opened(failed_message(NotFoundError("no such call", hint="ask again")))[1])
    assert (type(error), error.message, error.hint) == (NotFoundError, "no such call", "ask again")
    assert "nobody could say why" in read_failure(b"{broken").message
