"""How the server's own events are written: for people on a terminal, as JSON lines for machines."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import structlog


def set_up_logging() -> None:
    """Configure structlog once, at the start of a server. Tracebacks never show variables: they hold tokens."""
    shared: Sequence[Any] = (
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    )
    if sys.stderr.isatty():
        last: Sequence[Any] = (structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback),)
    else:
        last = (structlog.processors.format_exc_info, structlog.processors.JSONRenderer())
    structlog.configure(
        processors=[*shared, *last],
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
