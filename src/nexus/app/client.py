"""The Python client: what the command line does, for programs.

client = nexus.Client()                              # this machine's own server, started if need be
run = client.launch(["python", "train.py"])          # or client.launch("job.yaml", set=["nodes=2"])
for line in client.logs(run.id, follow=True):
    print(line.text)
assert client.wait(run.id).state == "succeeded"
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Self

from nexus.access.faces.client import AccessClient
from nexus.app.connect import connect
from nexus.deploy.faces.client import DeployClient
from nexus.infra.http_client import HttpClient
from nexus.kernel.errors import JobError, UsageError
from nexus.launch.faces.client import LaunchClient
from nexus.launch.faces.jobfiles import Jobs, read_argv, read_file, submission_of, waiting_for
from nexus.launch.model import Run, RunState
from nexus.track.faces.client import TrackClient
from nexus.track.model import TaskLine


class Client:
    """One server and one identity. `runs`, `track`, `endpoints` and `access` are the typed routes of each slice."""

    def __init__(self, url: str | None = None, token: str | None = None, project: str | None = None) -> None:
        """With neither, the server of `nexus login` or `nexus up`. Raises DeniedError, UnavailableError, UsageError."""
        if token and not url:
            raise UsageError("a token needs the URL of its server", hint="nexus.Client(url, token)")
        self.http = HttpClient(url, token, project=project or "") if url and token else connect(url, project)
        self.runs = LaunchClient(self.http)
        self.track = TrackClient(self.http)
        self.endpoints = DeployClient(self.http)
        self.access = AccessClient(self.http)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Give back the connections."""
        self.http.close()

    def launch(self, job: str | Path | Sequence[str], *, set: Sequence[str] = ()) -> Run:  # noqa: A002 (as --set)
        """Run a job file, a folder's job.yaml, or a command given as a list of words.

        Of a file with several jobs, the last one is returned. Raises FileError, UsageError, LimitError.
        """
        if isinstance(job, str | Path):
            return self.launch_all(read_file(Path(job), set))[-1]
        return self.launch_all(read_argv(tuple(job), set))[-1]

    def launch_all(self, jobs: Jobs) -> list[Run]:
        """Every job of a file, each after those that it waits for."""
        ids: dict[str, str] = {}
        runs = []
        with tempfile.TemporaryDirectory() as scratch:
            for spec in jobs.specs:
                target = Path(scratch) / spec.name
                submission, package = submission_of(spec, jobs, target)
                if package is not None:
                    self.track.upload_blob(target)
                run = self.runs.submit(waiting_for(submission, ids))
                ids[spec.name] = run.id
                runs.append(run)
        return runs

    def logs(self, run: str, *, follow: bool = False) -> Iterator[TaskLine]:
        """The run's log so far, or with `follow` to its end."""
        return self.track.follow(run) if follow else self.track.lines(run)

    def wait(self, run: str, *, check: bool = False) -> Run:
        """The run once it has ended. With `check`, raises JobError unless it succeeded."""
        *_, last = self.runs.follow(run)
        if check and last.state is not RunState.SUCCEEDED:
            raise JobError(f"the run {last.id} {last.state}: {last.reason}", hint=f"Its log: nexus logs {last.id}")
        return last
