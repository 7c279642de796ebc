"""`nexus.AsyncClient` against a whole house."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

import nexus
from nexus.kernel.errors import DeniedError, JobError
from tests.e2e.house import House

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


async def test_several_jobs_at_once_in_one_event_loop(standing: House, tmp_path: Path) -> None:
    (tmp_path / "say.sh").write_text("echo one; echo two >&2\n")
    (tmp_path / "job.yaml").write_text("name: words\nrun: sh say.sh\noutputs: [say.sh]\n")
    async with nexus.AsyncClient(standing.url, standing.http.token) as client:
        runs = await asyncio.gather(*(client.launch(tmp_path / "job.yaml") for _ in range(3)))
        for run in runs:
            assert [line.text async for line in client.logs(run.id, follow=True)] == ["one", "two"]
        ended = await asyncio.gather(*(client.wait(run.id, check=True) for run in runs))
        assert {run.state for run in ended} == {"succeeded"}
        kept = await client.track.artifact(runs[0].id, "say.sh")
        target = await client.track.download(kept.digest, tmp_path / "back.sh")
        assert target.read_text() == "echo one; echo two >&2\n"


async def test_what_goes_wrong_is_an_error_of_the_tree(standing: House) -> None:
    async with nexus.AsyncClient(standing.url, standing.http.token) as client:
        run = await client.launch(["sh", "-c", "exit 3"])
        with pytest.raises(JobError, match="exit"):
            await client.wait(run.id, check=True)
    async with nexus.AsyncClient(standing.url, "nx_u_wrong") as stranger:
        with pytest.raises(DeniedError):
            await stranger.access.me()
