"""The command line's kit: where the server is, and how to print for people and for machines."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from nexus.infra.visible import visible

if TYPE_CHECKING:  # its HTTP takes longer to import than all of `nexus --help` may
    from nexus.infra.http_client import HttpClient

_BAR_FROM_B = 1_000_000  # less is over before a bar is read


@dataclass
class Shell:
    """What every command gets as its context object (`@click.pass_obj`)."""

    connect: Callable[[], HttpClient]  # may start the embedded server; raises NexusError
    json: bool = False
    _http: HttpClient | None = field(default=None, repr=False)

    @property
    def http(self) -> HttpClient:
        """The server, connected on first use."""
        if self._http is None:
            self._http = self.connect()
        return self._http

    @property
    def is_tty(self) -> bool:
        """Whether a person looks at standard output."""
        return sys.stdout.isatty()

    @property
    def has_colour(self) -> bool:
        """Whether colours help who looks (https://no-color.org)."""
        return self.is_tty and not os.environ.get("NO_COLOR")

    def emit(self, value: Any) -> None:
        """`value` as one JSON document on standard output."""
        import msgspec

        encoded = msgspec.json.format(msgspec.json.encode(value), indent=2)
        sys.stdout.write(encoded.decode() + "\n")

    def say(self, text: str = "") -> None:
        """A line for people on standard output; nothing with --json."""
        if not self.json:
            sys.stdout.write(visible(text) + "\n")

    def note(self, text: str) -> None:
        """A line for people beside the result, on standard error."""
        sys.stderr.write(visible(text) + "\n")

    @contextmanager
    def progress(self, label: str) -> Iterator[Callable[[int, int], None]]:
        """Gives what to call with the bytes done and those in all: a bar, where a person waits for many of them."""
        if not sys.stderr.isatty() or self.json:
            yield lambda _done, _total: None
            return
        import click

        with ExitStack() as stack:
            bars: list[Any] = []

            def show(done: int, total: int) -> None:
                if not bars and total >= _BAR_FROM_B:
                    bars.append(stack.enter_context(click.progressbar(length=total, label=label, file=sys.stderr)))
                if bars:
                    bars[0].update(done - bars[0].pos)

            yield show

    def table(self, head: Sequence[str], rows: Iterable[Sequence[str]], *, empty: str = "") -> None:
        """A table for people: rich on a terminal, aligned text otherwise; `empty` is said when there are no rows."""
        body = [[visible(str(cell)).replace("\n", " ") for cell in row] for row in rows]
        if not body and empty:
            self.say(empty)
        elif self.has_colour:
            _rich_table(head, body)
        else:
            widths = [max(len(row[i]) for row in [list(head), *body]) for i in range(len(head))]
            for row in [list(head), *body]:
                self.say("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def _rich_table(head: Sequence[str], body: Sequence[Sequence[str]]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(*head, box=None, pad_edge=False, header_style="bold")
    for row in body:
        table.add_row(*(Text(cell) for cell in row))  # Text: what a job or a user named is never markup
    Console().print(table)
