"""Does the file that was written answer? Asked of the very engine that will serve it, in a process of its own.

python -m nexus.train.adapters.engine_check FILE.gguf    questions as JSON on standard input, answers on output
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from nexus.kernel.errors import JobError

ENGINE = "xllamacpp"


def is_here() -> bool:
    """Whether the engine is installed."""
    return find_spec(ENGINE) is not None


def answers(path: Path, prompts: Sequence[str], *, tokens: int, threads: int) -> list[str]:
    """What llama.cpp says to raw prompts, greedily. Raises JobError if it cannot load the file."""
    asked = json.dumps({"prompts": list(prompts), "tokens": tokens, "threads": threads})
    ran = subprocess.run(
        [sys.executable, "-m", __name__, str(path)],
        input=asked,
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    try:
        said: list[str] = json.loads(ran.stdout.splitlines()[-1])
    except (IndexError, ValueError):
        last = ran.stderr.strip().splitlines()[-3:]
        raise JobError(
            f"llama.cpp cannot use {path.name}: {' / '.join(last) or f'it ended with {ran.returncode}'}",
            hint="The adapter is whole, in the run's checkpoints. Please report this file.",
        ) from None
    return said


def _main() -> None:
    import xllamacpp

    asked = json.loads(sys.stdin.read())
    params = xllamacpp.CommonParams()
    params.model.path = sys.argv[1]
    params.n_ctx, params.n_parallel, params.port = 2048, 1, 0
    params.cpuparams.n_threads = asked["threads"]
    server = xllamacpp.Server(params)
    said = []
    for prompt in asked["prompts"]:
        found = server.handle_completions({"prompt": prompt, "n_predict": asked["tokens"], "temperature": 0})
        said.append(found["choices"][0]["text"])
    sys.stdout.write(json.dumps(said) + "\n")
    sys.stdout.flush()
    os._exit(0)  # llama.cpp's threads have nothing to save, and may hang in their own destructors


if __name__ == "__main__":
    _main()
