"""What a job says of itself: `nexus.log`, `nexus.param`, `nexus.artifact`, `nexus.finish`.

    import nexus

    nexus.param({"lr": 0.1, "layers": 4})
    for batch in batches:
        nexus.log({"loss": loss, "accuracy": accuracy})
    nexus.artifact("digits", "model.safetensors", kind="model")

No network here: calls end in files under `$NEXUS_SPOOL`, which the node's agent ships; so a job neither waits for a
server nor fails with it. Without `$NEXUS_SPOOL` (the script was started by hand) values are checked and not kept.

A log call costs about a microsecond: it appends to a queue, which a thread empties every 200 ms. At exit the rest is
written. A process killed by `kill -9` loses at most those 200 ms. A forked child writes a stream of its own.

    $NEXUS_SPOOL/m-<pid>-<random>.bin       frames of `nexus.track.frames`, only ever appended to
    $NEXUS_SPOOL/artifact-<time>-<pid>-<n>.json   {"name", "path", "kind", "meta", "copied"}, complete once it exists;
                                            if `copied`, the path lies in the spool and belongs to the agent

Standard library only, and none of its slow parts: importing this costs a few milliseconds.
"""

from __future__ import annotations

import atexit
import os
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from math import isfinite
from operator import index
from typing import Any

from nexus.kernel.errors import UsageError
from nexus.track import frames

FLUSH_S = 0.2
_QUEUE_CALLS = 200_000  # above this, a log call helps to write: memory stays bounded, and nothing is lost
_UNWRITTEN_MAX_B = 64 * 1024 * 1024  # kept in memory while the disk is full; above it numbers are lost, and it is said
_STEP_MAX = 2**63 - 1

Row = tuple[tuple[str, ...], Sequence[float], int | None, float]


class Recorder:
    """One process's metric stream. `directory` None: check values, keep nothing."""

    def __init__(self, directory: str | None) -> None:
        self._directory = directory
        self._queue: deque[Row] = deque()
        self._known: set[tuple[str, ...]] = set()
        self._lock = threading.Lock()  # held while writing, never while queueing
        self._file = -1
        self._size = 0
        self._unwritten: list[bytes] = []
        self._unwritten_b = 0
        self._lost_b = 0
        self._next_step = 0
        self._thread: threading.Thread | None = None
        self._artifacts = 0
        self._now = time.time  # noqa: TID251 (the user's process; nobody gives it a Clock)

    # ------------------------------------------------------------------ what the user calls

    def log(self, values: Mapping[str, Any], step: int | None) -> None:
        try:
            keys = tuple(values.keys())
        except AttributeError as error:
            raise UsageError(
                f"{values!r:.80} is no dictionary of numbers",
                hint='Give each number a name: nexus.log({"loss": 0.31}).',
            ) from error
        if keys not in self._known:
            self._learn(keys)
        numbers: Sequence[Any] = tuple(values.values())
        for number in numbers:
            if number.__class__ is not float:
                numbers = [_number(key, value) for key, value in values.items()]
                break
        if step is not None:
            step = _step(step)
        if self._directory is None:
            return
        self._queue.append((keys, numbers, step, self._now()))
        if self._thread is None or len(self._queue) > _QUEUE_CALLS:
            self._busy()

    def param(self, values: Mapping[str, Any]) -> None:
        import json

        bodies = []
        for key, value in values.items():
            try:
                bodies.append(json.dumps({_name(key): _plain(value)}, allow_nan=False).encode())
            except (TypeError, ValueError, RuntimeError) as error:  # RuntimeError: as in `_number`
                raise UsageError(
                    f"the parameter {key} is not plain data: {error}",
                    hint="Use numbers, strings, booleans, None, and lists and dictionaries of them.",
                ) from error
            if len(bodies[-1]) > frames.BODY_MAX_B:
                raise UsageError(
                    f"the parameter {key} takes {len(bodies[-1])} bytes of {frames.BODY_MAX_B}",
                    hint="Keep large things as an artifact.",
                )
        if self._directory is not None:
            with self._lock:
                self._unwritten_b += sum(map(len, bodies))
                self._unwritten += map(frames.write_params, bodies)
                self._write()

    def artifact(self, name: str, path: str | os.PathLike[str], kind: str, meta: Mapping[str, Any], copy: bool) -> None:
        from nexus.track.sdk_artifact import request

        with self._lock:
            self._artifacts += 1
            number = self._artifacts
        request(self._directory, number, name, os.fspath(path), kind, meta, copy=copy, at=self._now())

    def flush(self, timeout: float | None = None) -> bool:
        """Write everything that was logged before this call; False if another write took longer than `timeout`."""
        if not self._lock.acquire(timeout=-1 if timeout is None else timeout):
            return False
        try:
            self._drain()
            self._write()
            return not self._unwritten
        finally:
            self._lock.release()

    # ------------------------------------------------------------------ the other side of the queue

    def _learn(self, keys: tuple[str, ...]) -> None:
        """Check names once, not in every call."""
        for key in keys:
            _name(key)
        if len(self._known) > 10_000:
            self._known.clear()
        self._known.add(keys)

    def _busy(self) -> None:
        """The first call starts the thread; a call that finds the queue too long helps to empty it."""
        if self._thread is not None:
            self.flush()
            return
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="nexus-log", daemon=True)
                self._thread.start()
                _flush_when_a_worker_ends(self)

    def _run(self) -> None:
        while True:
            time.sleep(FLUSH_S)
            self.flush()

    def _drain(self) -> None:
        """Turn the queue into frames. Runs of calls with the same keys become columns."""
        queue = self._queue
        rows = [queue.popleft() for _ in range(len(queue))]
        for keys, group in _runs(rows):
            steps = []
            for _, _, step, _ in group:
                steps.append(self._next_step if step is None else step)
                self._next_step = min(steps[-1] + 1, _STEP_MAX)
            columns = list(zip(*(row[1] for row in group), strict=True))
            for frame in frames.write_points(keys, steps, [row[3] for row in group], columns):
                if self._unwritten_b + len(frame) > _UNWRITTEN_MAX_B:
                    self._lost_b += len(frame)
                    continue
                self._unwritten.append(frame)
                self._unwritten_b += len(frame)

    def _write(self) -> None:
        """Append what waits. A full disk keeps it waiting: a job is not stopped by its own numbers."""
        if not self._unwritten or self._directory is None:
            return
        data = b"".join(self._unwritten)
        try:
            if self._file < 0:
                self._file = _new_file(self._directory)
            _write_whole(self._file, self._size, data)
        except OSError as error:
            if not self._lost_b:
                self._lost_b = 1
                _warn(f"cannot write metrics to {self._directory}: {error.strerror}; will try again")
            return
        self._size += len(data)
        self._unwritten.clear()
        self._unwritten_b = 0
        if self._lost_b:
            _warn("metrics are written again" + (f"; {self._lost_b} bytes were lost" if self._lost_b > 1 else ""))
            self._lost_b = 0


def _runs(rows: list[Row]) -> Iterator[tuple[tuple[str, ...], list[Row]]]:
    """Neighbours with the same keys, in order."""
    start = 0
    for end in range(1, len(rows) + 1):
        if end == len(rows) or rows[end][0] != rows[start][0]:
            if rows[start][0]:
                yield rows[start][0], rows[start:end]
            start = end


def _new_file(directory: str) -> int:
    path = f"{directory}/m-{os.getpid()}-{os.urandom(6).hex()}.bin"
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)


def _write_whole(file: int, size: int, data: bytes) -> None:
    """All of `data` at `size`, or the file as it was: half a frame in the middle of a stream helps nobody."""
    written = 0
    try:
        while written < len(data):
            written += os.pwrite(file, data[written:], size + written)
    except OSError:
        os.ftruncate(file, size)
        raise


def _flush_when_a_worker_ends(recorder: Recorder) -> None:
    """Workers of multiprocessing leave without atexit; they run its finalizers instead."""
    util = sys.modules.get("multiprocessing.util")
    if util is not None:
        util.Finalize(None, recorder.flush, exitpriority=0)


def _number(key: str, value: Any) -> float:
    if value.__class__ is float:
        return float(value)
    if isinstance(value, str | bytes | bytearray) or value is None:
        raise UsageError(f"{key} is {value!r:.80}, not a number", hint="nexus.param keeps words; log takes numbers.")
    item = getattr(value, "item", None)  # of numpy and torch; float() of a tensor within a gradient warns
    try:
        return float(item() if callable(item) else value)
    except (TypeError, ValueError, OverflowError, RuntimeError) as error:  # RuntimeError: a tensor with many elements
        raise UsageError(
            f"{key} is a {type(value).__name__}, not one number: {error}", hint="Log one number per name: x.mean()."
        ) from error


def _step(step: Any) -> int:
    try:
        number = index(step)
    except TypeError as error:
        raise UsageError(
            f"the step is {step!r:.80}, not a whole number", hint="Count batches or epochs: step=3."
        ) from error
    if not -_STEP_MAX <= number <= _STEP_MAX:
        raise UsageError("the step does not fit 64 bits", hint="Count batches or epochs: step=3.")
    return number


def _name(key: Any) -> str:
    if not isinstance(key, str) or not key or "\0" in key or len(key.encode("utf-8", "replace")) > frames.KEY_MAX_B:
        raise UsageError(
            f"{key!r:.80} cannot name a number", hint=f"Use a text of 1..{frames.KEY_MAX_B} bytes, such as train/loss."
        )
    try:
        key.encode()
    except UnicodeEncodeError as error:
        raise UsageError(f"{key!r:.80} is not valid text") from error
    return key


def _plain(value: Any) -> Any:
    """JSON has no NaN and no infinity: as parameters they become words. Scalars of numpy and torch become numbers."""
    if isinstance(value, float) and not isfinite(value):
        return str(float(value))
    if isinstance(value, str | int | float | bool) or value is None:
        return value
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    if isinstance(value, dict):
        return {key: _plain(one) for key, one in value.items()}
    item = getattr(value, "item", None)
    return _plain(item()) if callable(item) else str(value)


def _warn(text: str) -> None:
    print(f"nexus: {text}", file=sys.stderr)  # noqa: T201 (the only way to reach the person whose job this is)


# --------------------------------------------------------------------------- the process's recorder

_recorder: Recorder | None = None
_starting = threading.Lock()


def _start() -> Recorder:
    global _recorder  # noqa: PLW0603 (one stream per process is what this module is about)
    with _starting:
        if _recorder is None:
            _recorder = Recorder(os.environ.get("NEXUS_SPOOL") or None)
        return _recorder


def _in_child() -> None:
    """After a fork: the parent writes what is in its queue; the child begins anew, with locks that nobody holds."""
    global _recorder, _starting
    _recorder, _starting = None, threading.Lock()


atexit.register(lambda: finish())
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)


def log(values: Mapping[str, Any], step: int | None = None) -> None:
    """Keep numbers: `nexus.log({"loss": 0.31})`. Without `step`, calls are counted.

    Whatever `float()` takes is a number: Python's, numpy's, an array or tensor of one element. NaN and infinities are
    kept.
    Raises UsageError for anything else, here and not later.
    """
    (_recorder or _start()).log(values, step)


def param(name: str | Mapping[str, Any], value: Any = None) -> None:
    """Keep what the run was started with: `nexus.param("lr", 0.1)` or `nexus.param({"lr": 0.1, "layers": 4})`.

    Raises UsageError for what JSON cannot say.
    """
    (_recorder or _start()).param({name: value} if isinstance(name, str) else name)


def artifact(
    name: str,
    path: str | os.PathLike[str],
    *,
    kind: str = "artifact",
    meta: Mapping[str, Any] | None = None,
    copy: bool = True,
) -> None:
    """Keep a file or folder: `kind` is `artifact`, `checkpoint`, or `model` (the registry's next version of `name`).

    The content is copied now, so it may change or vanish afterwards; `copy=False` saves that for what stays as it is.
    Raises UsageError if there is nothing at `path`.
    """
    (_recorder or _start()).artifact(name, path, kind, meta or {}, copy)


def finish(timeout: float | None = None) -> bool:
    """Write everything that was logged, and say whether that worked. Called at exit by itself.

    Call it before `os._exit`, which skips that. `timeout` bounds, in seconds, the wait for a write that hangs (a
    network disk that is away); logging may go on afterwards.
    """
    return _recorder is None or _recorder.flush(timeout)
