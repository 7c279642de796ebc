"""Whether this Python has what fine-tuning needs."""

from __future__ import annotations

import importlib.util

from nexus.kernel.errors import MissingError

NEEDED = ("torch", "transformers", "peft", "safetensors", "gguf")


def need_extras() -> None:
    """Raises MissingError, with the command that installs what is missing."""
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise MissingError(
            f"fine-tuning needs {', '.join(missing)}, which this Python has not",
            hint="pip install 'nexus[llm]' (in a clone: make setup), or let the run do it: nexus tune --fresh",
        )
