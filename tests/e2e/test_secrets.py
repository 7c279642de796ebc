"""A canary: one secret, and every place it could leak to. The job has it; no file, answer, log or page does."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from nexus.infra.http_client import HttpClient
from tests.e2e.house import House, until

CANARY = "hf_QzPxr7canaryB4WvTn"
JOB = """name: careful
workspace: .
secrets: [HF_TOKEN]
setup: echo "in setup $HF_TOKEN"
outputs: [out]
run: |
  echo "whole $HF_TOKEN and token $NEXUS_TOKEN"
  printf "half ${HF_TOKEN%%B4WvTn}"; sleep 0.7; echo "B4WvTn after a pause"
  mkdir out && printf %s "$HF_TOKEN" | sha256sum > out/digest
  while [ ! -e GO ]; do sleep 0.05; done
  echo done
"""


def put(house: House, name: str, value: str) -> subprocess.CompletedProcess[str]:
    """As a person pipes it."""
    return subprocess.run(
        [sys.executable, "-m", "nexus", "secret", "set", name],
        env=house.environ,
        input=value + "\n",
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )


def holding(folder: Path) -> list[str]:
    """The files under a folder that hold the canary."""
    return [str(file) for file, content in contents(folder) if CANARY.encode() in content]


def contents(folder: Path) -> Iterator[tuple[Path, bytes]]:
    for file in folder.rglob("*"):
        if file.is_file() and not file.is_symlink():
            try:
                yield file, file.read_bytes()
            except FileNotFoundError:
                continue  # it went while we looked


def test_a_secret_reaches_the_job_and_nothing_else(house: House, tmp_path: Path) -> None:
    house.up()
    put(house, "HF_TOKEN", CANARY)
    (tmp_path / "work").mkdir()
    job = tmp_path / "work" / "job.yaml"
    job.write_text(JOB.replace("GO", str(tmp_path / "go")))
    run = house.json("launch", str(job), "--yes", "--detach")["id"]
    until(lambda: "after a pause" in house.run("logs", run), "the job's words")
    until(lambda: not holding(house.home), "a disk without the secret while the job runs", timeout_s=10)
    (tmp_path / "go").touch()
    until(lambda: house.json("show", run)["run"]["state"] == "succeeded", "the job's end")

    log = house.run("logs", run)
    assert "whole *** and token ***" in log
    assert "in setup ***" in log
    assert "half ***" in log
    house.run("artifacts", "get", run, "out", "-o", str(tmp_path / "got"))
    (digest,) = [file for file in (tmp_path / "got").rglob("*") if file.is_file()]
    assert digest.read_text().startswith(hashlib.sha256(CANARY.encode()).hexdigest()), "the job had the real value"

    assert holding(house.home) == []
    for answer in answers(house.http, run):
        assert CANARY not in answer
    for words in (("secret", "list"), ("audit",), ("events",), ("show", run), ("logs", run)):
        done = house.finish("--json", *words)
        assert CANARY not in done.stdout + done.stderr, words
    trail = house.json("audit", "--all")
    assert {"secret.set", "secret.read"} <= {event["kind"] for event in trail}
    assert house.json("audit", "verify")["broken"] is None


def answers(http: HttpClient, run: str) -> Iterator[str]:
    """Everything that the API says of the run and of secrets."""
    paths = ["/v1/secrets", "/v1/audit", "/v1/events", f"/v1/runs/{run}", f"/v1/runs/{run}/tasks"]
    paths += [f"/v1/runs/{run}/events", f"/v1/runs/{run}/logs", f"/v1/runs/{run}/metrics", "/v1/runs", "/openapi.json"]
    for path in paths:
        yield http.request("GET", path).text


def test_a_missing_secret_is_refused_at_once(standing: House, tmp_path: Path) -> None:
    (tmp_path / "job.yaml").write_text("name: x\nsecrets: [NOT_THERE]\nrun: echo hi\n")
    done = standing.finish("launch", str(tmp_path / "job.yaml"), "--yes")
    assert done.returncode == 4
    assert "NOT_THERE" in done.stderr
    assert "nexus secret set NOT_THERE" in done.stderr


def test_a_value_is_never_a_word_of_a_command_line(standing: House) -> None:
    done = standing.finish("secret", "set", "HF_TOKEN", CANARY)
    assert done.returncode == 2
    assert "unexpected" in done.stderr
