"""The server's journal beyond its machine: kept as a checkpoint of the run, and fetched where a new attempt finds none.

Not every commit is sent: the first ones are, then one in some while, ever longer, so that a long run leaves hundreds of
copies and not hundreds of thousands. An attempt on another machine does the rounds again that were not sent.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path

import structlog

import nexus
from nexus.infra.http_client import HttpClient
from nexus.infra.package import unpack
from nexus.kernel.clock import Clock
from nexus.track.faces.client import TrackClient

log = structlog.get_logger()

NAME = "federate-journal"
FILES = ("rounds.jsonl", "state.safetensors")
_AT_LEAST_S = 20.0  # between two, after the first few
_FIRST = 3
_PART = 100  # of the time so far between two: a week leaves seven hundred


class Travel:
    """One run's journal on its way."""

    def __init__(self, folder: Path, clock: Clock) -> None:
        self._folder = folder
        self._clock = clock
        self._began = self._sent = clock.monotonic()
        self._count = 0

    def keep(self) -> bool:
        """After a commit: hand the journal to the run, if it is time; whether it was."""
        now = self._clock.monotonic()
        if self._count >= _FIRST and now - self._sent < max(_AT_LEAST_S, (now - self._began) / _PART):
            return False
        with tempfile.TemporaryDirectory(dir=self._folder) as stage:
            for name in FILES:
                shutil.copyfile(self._folder / name, Path(stage) / name)
            nexus.artifact(NAME, stage, kind="checkpoint")
        self._sent, self._count = now, self._count + 1
        return True


def restore(folder: Path, env: Mapping[str, str]) -> bool:
    """Fetch the run's newest journal into an empty `folder`; whether there was one.

    Raises NexusError: to begin anew without having asked would do the rounds twice.
    """
    url, token, run = (env.get(f"NEXUS_{name}", "") for name in ("API_URL", "TOKEN", "RUN_ID"))
    if not (url and token and run) or (folder / FILES[-1]).exists():
        return False
    with closing(HttpClient(url, token)) as http, tempfile.TemporaryDirectory(prefix="nexus-") as place:
        client = TrackClient(http)
        found = [artifact for artifact in client.artifacts(run) if artifact.name == NAME]
        if not found:
            return False
        packed = client.download(found[-1].digest, Path(place) / "journal")
        unpack(packed, Path(place) / "files")
        folder.mkdir(parents=True, exist_ok=True)
        for name in FILES:  # the state last: it is what makes a journal of the rest
            shutil.copyfile(Path(place) / "files" / name, folder / f"{name}.part")
            (folder / f"{name}.part").replace(folder / name)
    log.info("federate.restored", artifact=found[-1].id)
    return True
