"""`nexus.artifact`, the part that touches files: loaded on first use, so that `nexus.log` stays light."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nexus.kernel.errors import LimitError, UsageError

KINDS = ("artifact", "model", "checkpoint")


def request(
    directory: str | None,
    number: int,
    name: str,
    path: str,
    kind: str,
    meta: Mapping[str, Any],
    *,
    copy: bool,
    at: float,
) -> None:
    """Ask the agent to keep what is at `path`. Raises UsageError, LimitError."""
    source = Path(path).resolve()
    _check(name, source, path, kind)
    if directory is None:
        return
    stem = f"artifact-{int(at * 1e6):016d}-{os.getpid()}-{number}"
    kept = _copy(source, Path(directory) / f"{stem}.d", name) if copy else source
    words = {str(key): str(value) for key, value in meta.items()}
    body = {"name": name, "path": str(kept), "kind": kind, "meta": words, "copied": copy}
    _write_at_once(Path(directory) / f"{stem}.json", json.dumps(body).encode())


def _check(name: str, source: Path, path: str, kind: str) -> None:
    parts = name.split("/")
    if not 0 < len(name) <= 200 or not name.isprintable() or "\\" in name or {"", ".", ".."} & set(parts):
        raise UsageError(f"{name!r:.80} cannot name an artifact", hint="Use a word or a path such as plots/loss.png.")
    if kind not in KINDS:
        raise UsageError(f"{kind!r} is no kind of artifact", hint=f"One of: {', '.join(KINDS)}.")
    if not source.exists():
        raise UsageError(f"there is nothing at {path}", hint=f"Relative paths start at {Path.cwd()}.")


def _copy(source: Path, folder: Path, name: str) -> Path:
    """A copy in the spool. Links inside a folder are kept as links; packing decides about them."""
    try:
        folder.mkdir(mode=0o700)
        target = folder / (source.name or "root")
        if source.is_dir():
            shutil.copytree(source, target, symlinks=True)
        else:
            shutil.copyfile(source, target)
    except (OSError, shutil.Error) as error:
        shutil.rmtree(folder, ignore_errors=True)
        raise LimitError(
            f"the artifact {name} could not be copied into the spool: {error}",
            hint="Make room on that disk, or pass copy=False for a path that stays as it is until the run ends.",
        ) from error
    return target


def _write_at_once(path: Path, data: bytes) -> None:
    draft = path.with_suffix(".tmp")
    draft.write_bytes(data)
    draft.replace(path)
