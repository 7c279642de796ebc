"""What runs inside a replica: `python -m nexus.deploy.serve ENGINE ...`. Light: an engine is loaded when it is named.

The port is NEXUS_PORT_HTTP (or PORT), the model NEXUS_INPUT_MODEL (or what --model says).
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from nexus.deploy.core.engines import ENGINES
from nexus.kernel.errors import NexusError, UsageError
from nexus.kernel.registry import Registry


@dataclass(frozen=True, slots=True, kw_only=True)
class Serving:
    """What an engine is told."""

    port: int
    model: str = ""
    host: str = "127.0.0.1"
    predictor: str = ""
    alias: str = "model"
    context: int = 4096
    threads: int = 0
    slots: int = 4


SERVERS: Registry[Callable[[Serving], None]] = Registry(
    "nexus.engines", {name: engine.serve for name, engine in ENGINES.items() if engine.serve}
)


def serving(arguments: Sequence[str], env: Mapping[str, str]) -> tuple[str, Serving]:
    """The engine's name and what it is told. Raises UsageError."""
    parser = argparse.ArgumentParser(prog="python -m nexus.deploy.serve", description=__doc__)
    parser.add_argument("engine", choices=SERVERS.names())
    parser.add_argument("--model", default=env.get("NEXUS_INPUT_MODEL", ""), help="a folder, a file, or bundled://NAME")
    parser.add_argument("--predictor", default="", help="module:Class")
    parser.add_argument("--alias", default="model", help="the model's name in OpenAI's API")
    parser.add_argument("--context", type=int, default=4096)
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--slots", type=int, default=4, help="answers written at once")
    parser.add_argument("--host", default=env.get("NEXUS_BIND", "127.0.0.1"))
    parser.add_argument("--port", type=int, default=0)
    found = vars(parser.parse_args(arguments))
    port = found.pop("port") or int(env.get("NEXUS_PORT_HTTP") or env.get("PORT") or 0)
    if not port:
        raise UsageError("no port to listen on", hint="Set PORT, or say --port 8000.")
    return found.pop("engine"), Serving(port=port, **found)


def main() -> None:
    """Serve until a signal. Errors of the tree become one line, a hint and their exit code."""
    try:
        name, told = serving(sys.argv[1:], os.environ)
        sys.path.insert(0, str(Path.cwd()))  # the workspace: where the job's own modules are
        SERVERS.get(name)(told)
    except NexusError as error:
        sys.stderr.write(f"error: {error.message}\n  → {error.hint}\n" if error.hint else f"error: {error.message}\n")
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
