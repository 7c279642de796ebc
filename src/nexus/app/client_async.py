"""The Python client for programs with an event loop: everything of `nexus.Client`, awaited.

async with nexus.AsyncClient() as client:
    run = await client.launch(["python", "train.py"])
    async for line in client.logs(run.id, follow=True):
        print(line.text)
    assert (await client.wait(run.id)).state == "succeeded"
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Self

from nexus.access.faces.client_async import AsyncAccessClient
from nexus.app.connect import connect
from nexus.deploy.faces.client_async import AsyncDeployClient
from nexus.infra.http_client_async import AsyncHttpClient
from nexus.kernel.errors import JobError, UsageError
from nexus.launch.faces.client_async import AsyncLaunchClient
from nexus.launch.faces.jobfiles import Jobs, read_argv, read_file, submission_of, waiting_for
from nexus.launch.model import Run, RunState
from nexus.track.faces.client_async import AsyncTrackClient
from nexus.track.model import TaskLine


class AsyncClient:
    """One server and one identity. `runs`, `track`, `endpoints` and `access` are the typed routes of each slice."""

    def __init__(self, url: str | None = None, token: str | None = None, project: str | None = None) -> None:
        """As `nexus.Client`; without a URL it may start a server, which takes a second.

        Raises DeniedError, UnavailableError, UsageError.
        """
        if token and not url:
            raise UsageError("a token needs the URL of its server", hint="nexus.AsyncClient(url, token)")
        if not (url and token):
            found = connect(url, project)
            url, token, project = found.url, found.token, found.project
            found.close()
        self.http = AsyncHttpClient(url, token, project=project or "")
        self.runs = AsyncLaunchClient(self.http)
        self.track = AsyncTrackClient(self.http)
        self.endpoints = AsyncDeployClient(self.http)
        self.access = AsyncAccessClient(self.http)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Give back the connections."""
        await self.http.close()

    async def launch(self, job: str | Path | Sequence[str], *, set: Sequence[str] = ()) -> Run:  # noqa: A002 (as --set)
        """Run a job file, a folder's job.yaml, or a command given as a list of words.

        Of a file with several jobs, the last one is returned. Raises FileError, UsageError, LimitError.
        """
        read = read_file(Path(job), set) if isinstance(job, str | Path) else read_argv(tuple(job), set)
        return (await self.launch_all(read))[-1]

    async def launch_all(self, jobs: Jobs) -> list[Run]:
        """Every job of a file, each after those that it waits for."""
        ids: dict[str, str] = {}
        runs = []
        with tempfile.TemporaryDirectory() as scratch:
            for spec in jobs.specs:
                target = Path(scratch) / spec.name
                submission, package = await asyncio.to_thread(submission_of, spec, jobs, target)
                if package is not None:
                    await self.track.upload_blob(target)
                run = await self.runs.submit(waiting_for(submission, ids))
                ids[spec.name] = run.id
                runs.append(run)
        return runs

    async def logs(self, run: str, *, follow: bool = False) -> AsyncIterator[TaskLine]:
        """The run's log so far, or with `follow` to its end."""
        async for line in self.track.follow(run) if follow else self.track.lines(run):
            yield line

    async def wait(self, run: str, *, check: bool = False) -> Run:
        """The run once it has ended. With `check`, raises JobError unless it succeeded."""
        last = await self.runs.run(run)
        async for now in self.runs.follow(run):
            last = now
        if check and last.state is not RunState.SUCCEEDED:
            raise JobError(f"the run {last.id} {last.state}: {last.reason}", hint=f"Its log: nexus logs {last.id}")
        return last
