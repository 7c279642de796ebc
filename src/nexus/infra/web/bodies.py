"""Bodies on hot or typed paths, by msgspec: checked on the way in, fast on the way out."""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec
from fastapi import Request, Response

from nexus.kernel.errors import LimitError, UsageError

T = TypeVar("T")


async def read_body(request: Request, limit_b: int) -> bytes:
    """The whole body. Raises LimitError above `limit_b`."""
    parts: list[bytes] = []
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > limit_b:
            raise LimitError(f"the body is larger than {limit_b} bytes")
        parts.append(chunk)
    return b"".join(parts)


async def read_json(request: Request, kind: type[T], limit_b: int = 4_000_000) -> T:
    """The body as `kind`, a dataclass of a slice's model. Raises UsageError, LimitError."""
    try:
        return msgspec.json.decode(await read_body(request, limit_b), type=kind)
    except msgspec.DecodeError as error:
        raise UsageError(f"the body is not a valid {kind.__name__}: {error}") from error
    except RecursionError as error:
        raise UsageError(f"the body is nested too deep for a {kind.__name__}") from error


def json_answer(value: Any, status: int = 200) -> Response:
    """`value` (dataclasses, lists, dicts) as a JSON answer, without a second validation."""
    return Response(msgspec.json.encode(value), status_code=status, media_type="application/json")
