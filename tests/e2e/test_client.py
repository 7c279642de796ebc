"""`nexus.Client` against a whole house."""

from __future__ import annotations

from pathlib import Path

import pytest

import nexus
from nexus.kernel.errors import DeniedError, FileError, JobError, NotFoundError
from tests.e2e.house import House


@pytest.fixture
def client(standing: House) -> nexus.Client:
    return nexus.Client(standing.url, standing.http.token)


def test_a_command_from_submit_to_end(client: nexus.Client) -> None:
    with client:
        run = client.launch(["sh", "-c", "echo one; echo two >&2"], set=["name=words"])
        assert [line.text for line in client.logs(run.id, follow=True)] == ["one", "two"]
        done = client.wait(run.id, check=True)
        assert (done.state, done.exit_code, done.name) == ("succeeded", 0, "words")
        assert client.runs.run("words").id == run.id


def test_a_file_with_two_jobs_runs_them_in_order(client: nexus.Client, tmp_path: Path) -> None:
    (tmp_path / "job.yaml").write_text(
        "name: last\nafter: [first]\nrun: echo last\n---\nname: first\nrun: echo first\n"
    )
    with client:
        last = client.launch(tmp_path / "job.yaml")
        client.wait(last.id, check=True)
        first, last = client.runs.run("first"), client.runs.run("last")
        assert first.ended and last.started and first.ended <= last.started


def test_what_goes_wrong_is_an_error_of_the_tree(client: nexus.Client, standing: House, tmp_path: Path) -> None:
    (tmp_path / "job.yaml").write_text("name: [")
    with client:
        with pytest.raises(FileError):
            client.launch(tmp_path / "job.yaml")
        with pytest.raises(NotFoundError):
            client.runs.run("nothing-of-that-name")
        with pytest.raises(JobError, match="exit"):
            client.wait(client.launch(["sh", "-c", "exit 3"]).id, check=True)
    with nexus.Client(standing.url, "nx_u_wrong") as stranger, pytest.raises(DeniedError):
        stranger.access.me()
