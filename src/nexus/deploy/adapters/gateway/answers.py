"""The bodies that the gateway itself answers with: the tree's errors in OpenAI's shape too, and the list of models."""

from __future__ import annotations

from typing import Any

import msgspec

from nexus.deploy.model import Route

HEALTHY = b'{"status":"ok"}'


def error(status: int, code: str, message: str, hint: str) -> bytes:
    """One body for our clients (`code`, `hint`) and for OpenAI's (`type`)."""
    kind = "invalid_request_error" if status < 500 else "server_error"
    told: dict[str, Any] = {"code": code, "message": message, "hint": hint, "details": {}, "type": kind, "param": None}
    return msgspec.json.encode({"error": told})


def models(routes: list[Route]) -> bytes:
    """What `GET /v1/models` answers."""
    data = [{"id": r.endpoint, "object": "model", "created": int(r.created), "owned_by": r.project} for r in routes]
    return msgspec.json.encode({"object": "list", "data": data})
