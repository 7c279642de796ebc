"""A server whose blobs are in S3: the workspace goes there, the job gets it from there, and so do its artifacts."""

from __future__ import annotations

from pathlib import Path

from tests.e2e.house import House
from tests.s3 import S3Server


def test_a_job_with_its_workspace_and_artifacts_in_s3(house: House, s3: S3Server, tmp_path: Path) -> None:
    house.settings |= {**s3.environ, "NEXUS_BLOBS": s3.place()}
    house.up()
    work = tmp_path / "work"
    work.mkdir()
    (work / "data.txt").write_text("from the workspace")
    (work / "job.yaml").write_text(
        "name: stored\nworkspace: .\noutputs: [out]\nrun: mkdir out && tr a-z A-Z < data.txt > out/result.txt\n"
    )
    done = house.finish("launch", str(work / "job.yaml"), "--yes", "--follow")
    assert done.returncode == 0, done.stderr
    house.run("artifacts", "get", "stored", "out", "-o", str(tmp_path / "got"))
    (result,) = [file for file in (tmp_path / "got").rglob("*") if file.is_file()]
    assert result.read_text() == "FROM THE WORKSPACE"
    assert not (house.home / "blobs").exists(), "nothing went to the folder instead"
