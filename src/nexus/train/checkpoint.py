"""Checkpoints that a crash cannot spoil: write aside, fsync, rename; checked by SHA-256 before they are believed.

    checkpoints = Checkpoints()                       # $NEXUS_CHECKPOINTS, else ./checkpoints
    if (found := checkpoints.latest()) is not None:
        model.load_state_dict(found.tensors("model"))
        start = found.step
    ...
        if checkpoints.due(step):
            checkpoints.save(step, {"model": model.state_dict()}, {"seed": 7})

A checkpoint is a folder `step-000000000120` with `tensors.safetensors`, `state.json`, and `manifest.json`, which holds
the size and SHA-256 of the other two. `latest()` takes the newest whose manifest holds and passes over the rest, so a
disk that filled up, a power cut or a half-copied folder costs some steps, never the run. Nothing is ever unpickled.

`nexus.train.torchstate` turns an optimizer and the random numbers into such groups of tensors. One process writes a
folder at a time (rank 0 of a gang). Tensors are torch's or numpy's; neither is needed without.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nexus.kernel.errors import LimitError, NotFoundError, UsageError

FORMAT = 1
TENSORS, STATE, MANIFEST = "tensors.safetensors", "state.json", "manifest.json"
_STEP = re.compile(r"step-(\d{12})")
_CHUNK_B = 1 << 20
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """One that was found whole."""

    step: int
    path: Path
    state: dict[str, Any] = field(default_factory=dict)

    def tensors(self, group: str, *, framework: str = "pt") -> dict[str, Any]:
        """The tensors saved under `group`; framework `pt` (torch, on the CPU) or `numpy`. Raises NotFoundError."""
        from safetensors import safe_open

        prefix = f"{group}/"
        file = self.path / TENSORS
        if not file.exists():
            raise NotFoundError(f"the checkpoint of step {self.step} holds no tensors")
        with safe_open(file, framework=framework) as opened:
            keys = list(opened.keys())
            found = {key.removeprefix(prefix): opened.get_tensor(key) for key in keys if key.startswith(prefix)}
        groups = sorted({key.partition("/")[0] for key in keys})
        if not found:
            raise NotFoundError(
                f"the checkpoint of step {self.step} has no group {group!r}", hint=f"It has: {', '.join(groups)}."
            )
        return found


class Checkpoints:
    """The checkpoints of one run in one folder, which outlives the run's attempts."""

    def __init__(
        self, directory: str | os.PathLike[str] | None = None, *, keep: int | None = None, every: int | None = None
    ) -> None:
        """`keep` and `every` (steps) are defaults: the job's `train.checkpoint` section wins. Raises UsageError."""
        self.directory = Path(directory or os.environ.get("NEXUS_CHECKPOINTS") or "checkpoints").absolute()
        self.keep = _number("NEXUS_CHECKPOINT_KEEP", keep if keep is not None else 2)
        self.every = _number("NEXUS_CHECKPOINT_EVERY", every if every is not None else 100)

    def due(self, step: int) -> bool:
        """Whether a loop that has finished `step` steps should save now."""
        return step > 0 and step % self.every == 0

    def save(
        self, step: int, groups: Mapping[str, Mapping[str, Any]], state: Mapping[str, Any] | None = None
    ) -> Checkpoint:
        """Keep `groups` of tensors and `state` (plain JSON) as of `step` finished steps; on disk when it returns.

        Raises UsageError for what cannot be kept, LimitError if the disk is full: what was there before stays good.
        """
        if not 0 <= step < 10**12:
            raise UsageError(f"{step} is not a number of finished steps")
        draft = self.directory / f".draft-{os.getpid()}-{os.urandom(4).hex()}"
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            self._sweep()
            draft.mkdir()
            plain = _write(draft, step, groups, dict(state or {}))
            path = self._publish(draft, step)
        except OSError as error:
            shutil.rmtree(draft, ignore_errors=True)
            raise LimitError(
                f"cannot write a checkpoint to {self.directory}: {error.strerror}",
                hint="Make room on that disk; the checkpoints before this one are whole.",
            ) from error
        except BaseException:
            shutil.rmtree(draft, ignore_errors=True)
            raise
        self._prune()
        return Checkpoint(step, path, plain)

    def latest(self) -> Checkpoint | None:
        """The newest that is whole, or None. Each that is not is named in a warning and passed over."""
        for path in self._newest_first():
            try:
                return _read(path)
            except (OSError, ValueError, KeyError, TypeError) as error:
                _log.warning("passing over %s: %s", path.name, error)
        return None

    def _newest_first(self) -> Iterator[Path]:
        if self.directory.is_dir():
            names = sorted(
                (entry.name for entry in self.directory.iterdir() if _STEP.fullmatch(entry.name)), reverse=True
            )
            yield from (self.directory / name for name in names)

    def _publish(self, draft: Path, step: int) -> Path:
        """The draft under its name. The same step again replaces what an earlier attempt left."""
        path = self.directory / f"step-{step:012d}"
        if path.exists():
            path.rename(self.directory / f".draft-old-{os.urandom(4).hex()}")
        draft.rename(path)
        _sync(self.directory)
        return path

    def _prune(self) -> None:
        for path in list(self._newest_first())[self.keep :]:
            shutil.rmtree(path, ignore_errors=True)
        self._sweep()

    def _sweep(self) -> None:
        """What a writer that was killed left behind."""
        for left in self.directory.glob(".draft-*"):
            shutil.rmtree(left, ignore_errors=True)


# --------------------------------------------------------------------------- files


def _number(variable: str, default: int) -> int:
    text = os.environ.get(variable) or str(default)
    if not text.isdigit() or int(text) < 1:
        raise UsageError(f"{variable} is {text!r}, not a number from 1 on", hint="Give one, such as 100.")
    return int(text)


def _write(draft: Path, step: int, groups: Mapping[str, Mapping[str, Any]], state: dict[str, Any]) -> dict[str, Any]:
    """Fill the folder, the manifest last; return the state as it will be read back."""
    try:
        body = json.dumps(state, allow_nan=False).encode()
    except (TypeError, ValueError) as error:
        raise UsageError(
            f"this state is not plain data: {error}",
            hint="Tensors go into the groups, numbers and words into the state.",
        ) from error
    (draft / STATE).write_bytes(body)
    flat = {f"{group}/{name}": tensor for group, tensors in groups.items() for name, tensor in tensors.items()}
    if flat:
        _write_tensors(draft / TENSORS, flat)
    files = {name: _seal(draft / name) for name in (STATE, TENSORS) if (draft / name).exists()}
    (draft / MANIFEST).write_text(json.dumps({"format": FORMAT, "step": step, "files": files}))
    _sync(draft / MANIFEST)
    _sync(draft)
    plain: dict[str, Any] = json.loads(body)
    return plain


def _write_tensors(path: Path, tensors: dict[str, Any]) -> None:
    first = next(iter(tensors.values()))
    if type(first).__module__.startswith("numpy"):
        from safetensors.numpy import save_file as save_numpy

        save_numpy(tensors, path)
        return
    from safetensors.torch import save_file

    # Tied weights share memory, which the format refuses; a copy of each is what a later load expects.
    save_file({name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}, path)


def _seal(path: Path) -> dict[str, Any]:
    _sync(path)
    return {"sha256": _digest(path), "size": path.stat().st_size}


def _read(path: Path) -> Checkpoint:
    """Raises OSError, ValueError, KeyError or TypeError for one that is not whole."""
    manifest = json.loads((path / MANIFEST).read_bytes())
    if manifest["format"] != FORMAT:
        raise ValueError(f"its format is {manifest['format']}, not {FORMAT}")
    if path.name != f"step-{manifest['step']:012d}":
        raise ValueError("its manifest belongs to another step")
    files = manifest["files"]
    if STATE not in files or not set(files) <= {STATE, TENSORS}:
        raise ValueError("its manifest lists other files")
    for name, seal in files.items():
        if (path / name).stat().st_size != seal["size"] or _digest(path / name) != seal["sha256"]:
            raise ValueError(f"{name} is torn: it is not what was written")
    return Checkpoint(manifest["step"], path, json.loads((path / STATE).read_bytes()))


def _digest(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as opened:
        while chunk := opened.read(_CHUNK_B):
            digest.update(chunk)
    return digest.hexdigest()


def _sync(path: Path) -> None:
    """On disk, not only in the system's memory."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
