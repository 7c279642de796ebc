"""A typed client of tracking's routes."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import msgspec

from nexus.infra.http_client import HttpClient
from nexus.kernel.errors import NotFoundError, UnavailableError, UsageError
from nexus.track.faces.bodies import (
    AliasTarget,
    CurveBody,
    NewsBody,
    NewVersion,
    Stored,
    SummaryBody,
    read_curve,
    read_news,
    read_summary,
)
from nexus.track.faces.events import EventReader, SentEvent
from nexus.track.model import Artifact, LogPage, Model, ModelVersion, TaskLine
from nexus.track.service.metrics import Curve, News, Summary

Progress = Callable[[int, int], None]  # bytes done, bytes in all
_CHUNK_B = 1024 * 1024
_RETRY_S = (0.2, 0.5, 1.0, 2.0, 3.0, 5.0, 5.0, 5.0)  # between attempts to follow on, about 20 s in all


class TrackClient:
    """Logs, metrics, artifacts, models and blobs of one server. Every call raises NexusError."""

    def __init__(self, http: HttpClient) -> None:
        self._http = http

    # ------------------------------------------------------------------ logs

    def logs(
        self, run: str, *, cursor: str = "", tail: int | None = None, task: str = "", limit: int | None = None
    ) -> LogPage:
        """One page of lines. Raises NotFoundError."""
        path = f"/v1/runs/{_part(run)}/logs"
        return self._http.get(path, LogPage, cursor=cursor or None, tail=tail, task=task or None, limit=limit)

    def lines(self, run: str, *, tail: int | None = None, task: str = "") -> Iterator[TaskLine]:
        """Every line that is there now, or the last `tail`. Raises NotFoundError."""
        page = self.logs(run, tail=tail, task=task, limit=5000)
        yield from page.lines
        while tail is None and page.lines:
            page = self.logs(run, cursor=page.cursor, task=task, limit=5000)
            yield from page.lines

    def follow(self, run: str, *, tail: int | None = None, task: str = "", cursor: str = "") -> Iterator[TaskLine]:
        """Lines as they come, until the run is over. A broken connection is made again, and no line is lost or doubled.

        Raises NotFoundError; UnavailableError if the server stays away for about 20 seconds.
        """
        params = {name: value for name, value in (("tail", tail), ("task", task or None)) if value is not None}
        for event in self._follow(f"/v1/runs/{_part(run)}/logs", params, cursor):
            if event.kind == "lines":
                yield from msgspec.json.decode(event.data, type=list[TaskLine])

    def search(self, run: str, text: str, *, task: str = "", limit: int = 200) -> list[TaskLine]:
        """The lines that hold `text`. Raises NotFoundError, UsageError."""
        path = f"/v1/runs/{_part(run)}/logs/search"
        return self._http.get(path, list[TaskLine], text=text, task=task or None, limit=limit)

    # ------------------------------------------------------------------ metrics

    def metrics(self, run: str) -> Summary:
        """What the run has logged: keys, last values, parameters. Raises NotFoundError."""
        return read_summary(self._http.get(f"/v1/runs/{_part(run)}/metrics", SummaryBody))

    def chart(self, run: str, key: str, *, points: int = 1500, after: int | None = None) -> list[Curve]:
        """One curve a task, thinned to about `points`; or every point from number `after` on. Raises NotFoundError."""
        path = f"/v1/runs/{_part(run)}/metrics/{quote(key, safe='/')}"
        return [read_curve(body) for body in self._http.get(path, list[CurveBody], points=points, after=after)]

    def follow_metrics(self, run: str, *, cursor: str | None = None) -> Iterator[News]:
        """New points as they come, after `cursor` or from now on. Raises like `follow`."""
        params = {} if cursor is None else {"cursor": cursor}
        for event in self._follow(f"/v1/runs/{_part(run)}/metrics", params, ""):
            if event.kind == "points":
                yield read_news(msgspec.json.decode(event.data, type=NewsBody))

    def _follow(self, path: str, params: dict[str, Any], cursor: str) -> Iterator[SentEvent]:
        failures = 0
        while True:
            headers = {"last-event-id": cursor} if cursor else {}
            try:
                with self._http.stream("GET", path, params={**params, "follow": 1}, headers=headers) as response:
                    reader = EventReader()
                    for line in response.iter_lines():
                        event = reader.read(line)
                        if event is None:
                            continue
                        failures, cursor = 0, event.id or cursor
                        if event.kind == "end":
                            return
                        yield event
            except UnavailableError:
                if failures >= len(_RETRY_S):
                    raise
            time.sleep(_RETRY_S[min(failures, len(_RETRY_S) - 1)])
            failures += 1

    # ------------------------------------------------------------------ artifacts and models

    def artifacts(self, run: str) -> list[Artifact]:
        """What the run left behind, oldest first. Raises NotFoundError."""
        return self._http.get(f"/v1/runs/{_part(run)}/artifacts", list[Artifact])

    def artifact(self, run: str, name: str) -> Artifact:
        """The newest artifact of that name. Raises NotFoundError."""
        found = [artifact for artifact in self.artifacts(run) if artifact.name == name]
        if not found:
            raise NotFoundError(f"the run {run} has no artifact {name!r}", hint=f"nexus artifacts list {run}")
        return found[-1]

    def models(self) -> list[Model]:
        """The project's models."""
        return self._http.get("/v1/models", list[Model])

    def model(self, name: str) -> Model:
        """One model. Raises NotFoundError."""
        return self._http.get(f"/v1/models/{_part(name)}", Model)

    def versions(self, name: str) -> list[ModelVersion]:
        """A model's versions, newest first. Raises NotFoundError."""
        return self._http.get(f"/v1/models/{_part(name)}/versions", list[ModelVersion])

    def version(self, name: str, version: str | int = "latest") -> ModelVersion:
        """One version by number, `latest` or alias. Raises NotFoundError."""
        return self._http.get(f"/v1/models/{_part(name)}/versions/{_part(str(version))}", ModelVersion)

    def register(self, name: str, new: NewVersion) -> ModelVersion:
        """The next version of a model from an uploaded blob. Raises NotFoundError."""
        return self._http.post(f"/v1/models/{_part(name)}/versions", ModelVersion, new)

    def set_alias(self, name: str, alias: str, version: int) -> Model:
        """Point `alias` at a version. Raises NotFoundError, UsageError."""
        path = f"/v1/models/{_part(name)}/aliases/{_part(alias)}"
        return self._http.call("PUT", path, Model, body=AliasTarget(version=version))

    # ------------------------------------------------------------------ blobs

    def has_blob(self, digest: str) -> bool:
        """Whether the project has uploaded these bytes."""
        try:
            self._http.request("HEAD", f"/v1/blobs/{digest}")
        except NotFoundError:
            return False
        return True

    def upload_blob(self, source: Path | bytes, *, progress: Progress | None = None) -> str:
        """Upload a file or bytes, unless the server has them from this project; returns the SHA-256."""
        size = len(source) if isinstance(source, bytes) else source.stat().st_size
        hashed = hashlib.sha256()
        for chunk in _chunks(source):
            hashed.update(chunk)
        digest = hashed.hexdigest()
        if not self.has_blob(digest):
            chunks = _counted(_chunks(source), size, progress)
            headers = {"content-type": "application/octet-stream", "content-length": str(size)}
            answer = self._http.request("PUT", f"/v1/blobs/{digest}", content=chunks, headers=headers)
            msgspec.json.decode(answer.content, type=Stored)
        elif progress is not None:
            progress(size, size)
        return digest

    def download(self, digest: str, target: Path, *, progress: Progress | None = None) -> Path:
        """Bring a blob to the file `target`, which appears whole and checked, or not at all.

        Raises NotFoundError; UsageError if what came has another digest.
        """
        draft = target.with_name(f".{target.name}.part")
        hashed, done = hashlib.sha256(), 0
        try:
            with self._http.stream("GET", f"/v1/blobs/{digest}") as response, draft.open("wb") as file:
                size = int(response.headers.get("content-length", 0))
                for chunk in response.iter_bytes(_CHUNK_B):
                    file.write(chunk)
                    hashed.update(chunk)
                    done += len(chunk)
                    if progress is not None:
                        progress(done, size)
            if hashed.hexdigest() != digest:
                raise UsageError("what was downloaded has another digest than asked for", hint="Try again.")
            draft.replace(target)
        finally:
            draft.unlink(missing_ok=True)
        return target


def _chunks(source: Path | bytes) -> Iterator[bytes]:
    if isinstance(source, bytes):
        yield source
        return
    with source.open("rb") as file:
        while chunk := file.read(_CHUNK_B):
            yield chunk


def _counted(chunks: Iterator[bytes], size: int, progress: Progress | None) -> Iterator[bytes]:
    done = 0
    for chunk in chunks:
        yield chunk
        done += len(chunk)
        if progress is not None:
            progress(done, size)


def _part(text: str) -> str:
    """One segment of a path."""
    return quote(text, safe="")
