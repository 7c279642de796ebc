"""Rows as people keep them, read as conversations: the format is seen from the keys, and every bad row has its line.

alpaca             {"instruction": ..., "input": ..., "output": ...}
messages           {"messages": [{"role": "user", "content": ...}, ...]}           as OpenAI's API
sharegpt           {"conversations": [{"from": "human", "value": ...}, ...]}
prompt-completion  {"prompt": ..., "completion": ...}; also response, answer, and question
"""

from __future__ import annotations

import csv
import io
import json
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from nexus.kernel.errors import FileError
from nexus.train.model import Conversation, Message, RowError, Rows

Row = tuple[int, Any]  # line, and what stands there
_ROLES = {
    "system": "system",
    "user": "user",
    "human": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "model": "assistant",
}
_PROMPTS, _COMPLETIONS = ("prompt", "question", "input"), ("completion", "response", "answer", "output")
MOST_BAD = 0.05  # of the rows; with more, the file is not what it seems


def read_rows(text: str, name: str) -> Rows:
    """The conversations in a file's text. Its kind is by the ending of `name`: .jsonl, .json or .csv.

    Bad rows are listed and left out. Raises FileError if there are too many, or no good one.
    """
    raw, errors = _parse(text, name)
    found = next((_format_of(row) for _, row in raw if _format_of(row)), None)
    if found is None:
        line = raw[0][0] if raw else 1
        raise FileError(
            f"these rows are in no known format: {_keys(raw[0][1]) if raw else 'there is none'}",
            hint="Use instruction/output, messages, conversations, or prompt/completion.",
            file=name,
            line=line,
        )
    good: list[Conversation] = []
    for line, row in raw:
        try:
            good.append(Conversation(_checked(_READERS[found](row)), line))
        except _BadRowError as error:
            errors.append(RowError(line, str(error)))
    errors.sort(key=lambda error: error.line)
    if not good or len(errors) > MOST_BAD * (len(good) + len(errors)):
        raise _too_many(errors, len(good) + len(errors), name)
    return Rows(found, tuple(good), tuple(errors))


def split(rows: Sequence[Conversation], held_out: int, seed: int) -> tuple[list[Conversation], list[Conversation]]:
    """Rows to train on, and `held_out` others (a fifth of all at most), the same for the same seed.

    A conversation that appears twice is never in both. Raises FileError if there are fewer than two.
    """
    unique = list({row.messages: row for row in rows}.values())
    if len(unique) < 2:
        raise FileError(
            "there are fewer than two different rows", hint="Fine-tuning needs some to learn, some to check."
        )
    random.Random(seed).shuffle(unique)  # noqa: S311 (an order, not a secret)
    count = max(1, min(held_out, len(unique) // 5))
    return unique[count:], unique[:count]


class _BadRowError(Exception):
    """Why a row cannot be used."""


# --------------------------------------------------------------------------- files


def _parse(text: str, name: str) -> tuple[list[Row], list[RowError]]:
    ending = name.lower().rpartition(".")[2]
    if ending == "jsonl":
        return _json_lines(text)
    if ending == "json":
        return list(_json_array(text, name)), []
    if ending == "csv":
        reader = csv.DictReader(io.StringIO(text), restval="")
        return [(reader.line_num, row) for row in reader], []
    raise FileError(f"{name} is no kind of data that can be read", hint="Use .jsonl, .json or .csv.", file=name)


def _json_lines(text: str) -> tuple[list[Row], list[RowError]]:
    rows: list[Row] = []
    errors = []
    for line, body in enumerate(text.split("\n"), start=1):
        if not body.strip():
            continue
        try:
            rows.append((line, json.loads(body)))
        except ValueError as error:
            errors.append(RowError(line, f"it is not JSON: {error}"))
    return rows, errors


def _json_array(text: str, name: str) -> Iterator[Row]:
    """The elements of a JSON array with their lines."""
    decoder, place, line, counted = json.JSONDecoder(), _skip(text, 0), 1, 0
    if text[place : place + 1] != "[":
        raise FileError("it is not a list of rows", hint="One object for each row, in [ ]; or use .jsonl.", file=name)
    place = _skip(text, place + 1)
    while text[place : place + 1] != "]":
        line, counted = line + text.count("\n", counted, place), place
        try:
            row, place = decoder.raw_decode(text, place)
        except ValueError as error:
            raise FileError(f"this is not JSON: {error}", file=name, line=line, hint="Mend the file there.") from error
        yield line, row
        place = _skip(text, place)
        if text[place : place + 1] == ",":
            place = _skip(text, place + 1)
        elif text[place : place + 1] != "]":
            raise FileError("the list does not end", hint="Is the file whole?", file=name, line=line)


def _skip(text: str, place: int) -> int:
    while place < len(text) and text[place] in " \t\r\n":
        place += 1
    return place


# --------------------------------------------------------------------------- formats


def _format_of(row: Any) -> str | None:
    if not isinstance(row, Mapping):
        return None
    if isinstance(row.get("messages"), list):
        return "messages"
    if isinstance(row.get("conversations"), list):
        return "sharegpt"
    if "instruction" in row and "output" in row:
        return "alpaca"
    if any(key in row for key in _PROMPTS) and any(key in row for key in _COMPLETIONS):
        return "prompt-completion"
    return None


def _alpaca(row: Any) -> list[Message]:
    given = _text(row, "input", optional=True)
    asked = _text(row, "instruction")
    system = _text(row, "system", optional=True)
    start = [Message("system", system)] if system else []
    return [
        *start,
        Message("user", f"{asked}\n{given}" if given else asked),
        Message("assistant", _text(row, "output")),
    ]


def _messages(row: Any, list_key: str = "messages", role_key: str = "role", text_key: str = "content") -> list[Message]:
    turns = row.get(list_key) if isinstance(row, Mapping) else None
    if not isinstance(turns, list):
        raise _BadRowError(f"it has no list {list_key!r}")
    result = []
    for turn in turns:
        role = turn.get(role_key) if isinstance(turn, Mapping) else None
        if role not in _ROLES:
            raise _BadRowError(f"a turn's {role_key} is {role!r}, not one of {', '.join(_ROLES)}")
        result.append(Message(_ROLES[role], _text(turn, text_key)))
    return result


def _sharegpt(row: Any) -> list[Message]:
    return _messages(row, "conversations", "from", "value")


def _prompt_completion(row: Any) -> list[Message]:
    if not isinstance(row, Mapping):
        raise _BadRowError("it is not an object")
    prompt = next((key for key in _PROMPTS if key in row), _PROMPTS[0])
    completion = next((key for key in _COMPLETIONS if key in row), _COMPLETIONS[0])
    return [Message("user", _text(row, prompt)), Message("assistant", _text(row, completion))]


_READERS: dict[str, Callable[[Any], list[Message]]] = {
    "alpaca": _alpaca,
    "messages": _messages,
    "sharegpt": _sharegpt,
    "prompt-completion": _prompt_completion,
}


def _text(row: Any, key: str, *, optional: bool = False) -> str:
    value = row.get(key) if isinstance(row, Mapping) else None
    if value is None and optional:
        return ""
    if not isinstance(value, str):
        raise _BadRowError(f"{key} is {'missing' if value is None else 'not text'}")
    if not value.strip() and not optional:
        raise _BadRowError(f"{key} is empty")
    return value.strip()


def _checked(messages: list[Message]) -> tuple[Message, ...]:
    if not messages or messages[-1].role != "assistant":
        raise _BadRowError("it does not end with an answer")
    turns = messages[1:] if messages[0].role == "system" else messages
    if any(turn.role != ("user", "assistant")[index % 2] for index, turn in enumerate(turns)) or len(turns) < 2:
        raise _BadRowError("its turns do not alternate between user and assistant")
    return tuple(messages)


def _keys(row: Any) -> str:
    return f"the first has {', '.join(map(str, row))}" if isinstance(row, Mapping) else "the first is no object"


def _too_many(errors: list[RowError], total: int, name: str) -> FileError:
    shown = "; ".join(f"line {error.line}: {error.reason}" for error in errors[:10])
    more = f"; and {len(errors) - 10} more" if len(errors) > 10 else ""
    return FileError(
        f"{len(errors)} of {total} rows cannot be used: {shown}{more}",
        hint=f"Mend them, or remove them; up to {MOST_BAD:.0%} are left out by themselves.",
        file=name,
        line=errors[0].line if errors else None,
    )
