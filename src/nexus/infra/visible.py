"""What others have written, as a terminal may show it: a job must not drive the terminal of whoever reads of it."""

from __future__ import annotations


def visible(text: str) -> str:
    """Text without what could drive the terminal: only tabs, line ends and colours stay."""
    if text.isprintable():
        return text
    kept: list[str] = []
    position = 0
    while position < len(text):
        character = text[position]
        if character == "\x1b" and (stop := _colour_end(text, position)):
            kept.append(text[position:stop])
            position = stop
            continue
        if character.isprintable() or character in "\t\n":
            kept.append(character)
        position += 1
    return "".join(kept)


def _colour_end(text: str, start: int) -> int:
    """Where a colour sequence (ESC [ digits ; m) that begins at `start` ends; 0 if none does."""
    stop = start + 2
    if text[start + 1 : stop] != "[":
        return 0
    while stop < len(text) and text[stop] in "0123456789;":
        stop += 1
    return stop + 1 if text[stop : stop + 1] == "m" else 0
