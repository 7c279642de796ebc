"""The engines that can serve a model, as the rest of the house knows them. A new one is a file and a line here."""

from __future__ import annotations

from dataclasses import dataclass

from nexus.kernel.errors import NotFoundError


@dataclass(frozen=True, slots=True, kw_only=True)
class Engine:
    """What is known of an engine without loading it."""

    says: str  # for people
    serve: str = ""  # module:function that serves inside a replica; empty: the job's own command does
    openai: bool = False  # it speaks OpenAI's API
    health: str = "/ready"  # answers 2xx when the model can answer
    timeout_s: float = 300.0  # for one whole answer
    inflight: int = 64  # requests at once, per replica


ENGINES: dict[str, Engine] = {
    "predictor": Engine(
        says="a Python class with predict(inputs)",
        serve="nexus.deploy.adapters.engines.predictor:serve",
        timeout_s=60.0,
    ),
    "llama": Engine(
        says="a language model as GGUF, by llama.cpp; speaks OpenAI's API",
        serve="nexus.deploy.adapters.engines.llama:serve",
        openai=True,
        health="/health",
        timeout_s=600.0,
        inflight=32,
    ),
    "command": Engine(says="the job's own `run:`, which listens on NEXUS_PORT_HTTP", health="/"),
}


def engine(name: str) -> Engine:
    """The engine called `name`. Raises NotFoundError."""
    found = ENGINES.get(name)
    if found is None:
        raise NotFoundError(f"there is no engine {name!r}", hint=f"Engines: {', '.join(ENGINES)}.")
    return found


def speaks_openai(name: str) -> bool:
    """Whether endpoints of this engine are found by a body's `model`."""
    return name in ENGINES and ENGINES[name].openai
