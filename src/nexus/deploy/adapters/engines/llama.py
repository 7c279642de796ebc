"""Serve a GGUF file by llama.cpp's own server, inside this process (xllamacpp): OpenAI's API, continuous batching."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path
from types import FrameType

from nexus.deploy.adapters.models import BUNDLED, bundled_gguf
from nexus.deploy.serve import Serving
from nexus.kernel.errors import MissingError, NotFoundError, UsageError

SHARE = 2  # by default a replica takes one core in so many: others share the machine, and waiting threads spin


def weights(model: str) -> Path:
    """The GGUF file that `model` means: a file, a folder with one in it, or bundled://NAME. Raises NotFoundError."""
    if model.startswith(BUNDLED):
        return bundled_gguf(model.removeprefix(BUNDLED))
    if not model:
        raise UsageError("no model was given", hint="Say --model FILE.gguf, or set NEXUS_INPUT_MODEL.")
    path = Path(model)
    found = [path] if path.is_file() else sorted(path.glob("**/*.gguf"))
    if not found:
        raise NotFoundError(f"there is no GGUF file in {path}", hint="Export the model to GGUF first.")
    if len(found) > 1:
        names = ", ".join(file.name for file in found[:5])
        raise UsageError(f"{path} holds several GGUF files: {names}", hint="Name one: --model FILE.gguf.")
    return found[0]


def serve(told: Serving) -> None:
    """Listen at once (503 while the weights load), serve until SIGTERM. Raises MissingError, NotFoundError."""
    try:
        import xllamacpp
    except ImportError as problem:
        raise MissingError(
            "llama.cpp (the package xllamacpp) is not installed here",
            hint="pip install 'nexus[llm]' where the agent runs; in a clone of the repository: make setup",
        ) from problem
    params = xllamacpp.CommonParams()
    params.model.path = str(weights(told.model))
    params.model_alias = {told.alias}
    params.hostnames = [told.host]
    params.port = told.port
    params.n_parallel = told.slots
    params.n_ctx = told.context
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = told.threads or max(
        1, (os.cpu_count() or 1) // SHARE
    )
    params.endpoint_metrics = True
    stop = threading.Event()

    def ask_to_stop(_number: int, _frame: FrameType | None) -> None:
        stop.set()

    signal.signal(signal.SIGTERM, ask_to_stop)
    signal.signal(signal.SIGINT, ask_to_stop)
    server = xllamacpp.Server(params)
    while not stop.wait(1.0):  # returns to Python now and then, or a signal's handler would never run
        pass
    del server
    os._exit(0)  # llama.cpp's threads have nothing to save, and may hang in their own destructors
