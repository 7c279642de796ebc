"""Serve a Python class: `Predictor(model_dir)` with `predict(inputs)`, or `predict_batch([inputs, ...])`.

GET  /healthz   the process lives
GET  /ready     the model is loaded
POST /predict   JSON in, JSON out
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
import structlog

from nexus.deploy.adapters.engines.batcher import Batcher
from nexus.deploy.serve import Serving
from nexus.kernel.errors import LimitError, MissingError, NexusError, NotFoundError, UsageError

log = structlog.get_logger()

BODY_B = 64 * 1024 * 1024

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]


def load(predictor: str, model: str) -> Any:
    """The user's class, made with its model. Raises UsageError for a name that leads to no predictor."""
    from pkgutil import resolve_name

    if ":" not in predictor:
        raise UsageError(f"{predictor!r} names no class", hint="Write module:Class, such as predictor:Digits.")
    try:
        found = resolve_name(predictor)
    except (ImportError, AttributeError) as problem:
        raise UsageError(
            f"the predictor {predictor} cannot be imported: {problem}",
            hint="Is the module in the workspace, and what it imports in the requirements?",
        ) from problem
    made = found(model)
    if not hasattr(made, "predict") and not hasattr(made, "predict_batch"):
        raise UsageError(f"{predictor} has neither predict nor predict_batch", hint="Add: def predict(self, inputs)")
    return made


class PredictorApp:
    """The ASGI application over one predictor."""

    def __init__(self, predictor: Any) -> None:
        self._encode = msgspec.json.Encoder(enc_hook=_plain).encode
        self._decode = msgspec.json.Decoder().decode
        self._answer = _caller(predictor)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await _lifespan(receive, send)
        elif scope["type"] == "http":
            status, body = await self._http(scope, receive)
            await _reply(send, status, body)

    async def _http(self, scope: Scope, receive: Receive) -> tuple[int, bytes]:
        method, path = scope["method"], scope["path"]
        try:
            if path in {"/healthz", "/ready"} and method in {"GET", "HEAD"}:
                return 200, b'{"status":"ready"}'
            if path != "/predict":
                raise NotFoundError(f"nothing is at {path}", hint="Send inputs to: POST /predict")
            if method != "POST":
                raise UsageError(f"{method} is not understood here", hint="Send inputs to: POST /predict")
            return 200, await self._predict(await _body(receive))
        except NexusError as error:
            return error.status, msgspec.json.encode(error.as_dict())

    async def _predict(self, body: bytes) -> bytes:
        try:
            inputs = self._decode(body)
        except (msgspec.DecodeError, UnicodeDecodeError) as problem:
            raise UsageError(f"the body is not JSON: {problem}") from problem
        try:
            return self._encode(await self._answer(inputs))
        except NexusError:
            raise
        except (KeyError, ValueError, TypeError, IndexError) as problem:
            log.exception("predictor.refused")  # the inputs, most likely; the trace says
            raise UsageError(f"{type(problem).__name__}: {problem}", hint="See the replica's log.") from problem
        except Exception as problem:
            log.exception("predictor.failed")
            raise NexusError(f"{type(problem).__name__}: {problem}", hint="See the replica's log.") from problem


def _caller(predictor: Any) -> Callable[[Any], Awaitable[Any]]:
    """How this predictor is asked: in batches, as a coroutine, or in a thread so that health checks are answered."""
    if hasattr(predictor, "predict_batch"):
        return Batcher(predictor.predict_batch).ask
    predict = predictor.predict
    if inspect.iscoroutinefunction(predict):
        return predict  # type: ignore[no-any-return]  # the user's own coroutine function
    lock = asyncio.Lock()  # a model is rarely made for two threads

    async def ask(inputs: Any) -> Any:
        async with lock:
            return await asyncio.to_thread(predict, inputs)

    return ask


def _plain(value: Any) -> Any:
    """NumPy's and torch's values as JSON's, without importing either."""
    if hasattr(value, "tolist"):
        return value.tolist()
    raise TypeError(f"a {type(value).__name__} cannot be written as JSON")


async def _body(receive: Receive) -> bytes:
    parts: list[bytes] = []
    size, more = 0, True
    while more:
        message = await receive()
        part = message.get("body", b"")
        size += len(part)
        if size > BODY_B:
            raise LimitError(f"the body is larger than {BODY_B} bytes")
        parts.append(part)
        more = message.get("more_body", False)
    return b"".join(parts)


async def _reply(send: Send, status: int, body: bytes) -> None:
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def _lifespan(receive: Receive, send: Send) -> None:
    while True:
        message = await receive()
        await send({"type": message["type"] + ".complete"})
        if message["type"] == "lifespan.shutdown":
            return


def serve(told: Serving) -> None:
    """Load the model, then listen: a replica that answers is ready. Raises UsageError, MissingError."""
    try:
        import uvicorn
    except ImportError as problem:
        raise MissingError("uvicorn is not installed here", hint="Add uvicorn to the requirements.") from problem
    app = PredictorApp(load(told.predictor, told.model))
    # Connections outlive the gateway's own patience with silent ones, so it is never surprised by a closed one.
    uvicorn.run(
        app,
        host=told.host,
        port=told.port,
        access_log=False,
        log_level="warning",
        timeout_keep_alive=75,
        timeout_graceful_shutdown=30,
        lifespan="off",
    )
