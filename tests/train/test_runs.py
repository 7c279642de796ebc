"""Training as a user runs it: a real server, a real agent, real processes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from nexus.infra.package import pack
from nexus.launch.core.compile import compile_job
from nexus.launch.core.jobfile.reading import read_jobs
from nexus.launch.faces.client import LaunchClient
from nexus.launch.model import Run, RunState, Submission
from nexus.track.faces.client import TrackClient
from tests.e2e.house import House
from tests.train.tiny import save_tiny, write_rows

pytestmark = pytest.mark.torch
EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    made = House(tmp_path / "home")
    made.up()
    yield made
    made.down()


def launch(house: House, folder: Path, scratch: Path) -> Run:
    text = (folder / "job.yaml").read_text()
    (spec,) = read_jobs(text)
    packed = pack(folder, scratch / "workspace.zip")
    TrackClient(house.http).upload_blob(scratch / "workspace.zip")
    plan = compile_job(spec, workspace=packed.digest, workspace_b=packed.size_b, files=packed.files)
    return LaunchClient(house.http).submit(Submission(name=spec.name, plan=plan, job=text))


def test_the_ddp_example_loses_a_worker_and_goes_on(house: House, tmp_path: Path) -> None:
    run = launch(house, EXAMPLES / "ddp", tmp_path)
    track = TrackClient(house.http)
    said = [line.text for line in track.follow(run.id)]
    *_, over = LaunchClient(house.http).follow(run.id)
    assert over.state is RunState.SUCCEEDED, said
    assert over.attempt == 1
    assert "attempt 0: 2 processes, from step 0 of 88" in said
    assert "process 1 kills itself at step 50" in said
    assert "attempt 1: 2 processes, from step 40 of 88" in said
    version = track.version("digits-ddp")
    assert float(version.meta["accuracy"]) > 0.9
    assert version.run == run.id


def ask(house: House, model: str) -> dict[str, Any]:
    answer = httpx.post(
        f"http://127.0.0.1:{house.gateway_port}/v1/chat/completions",
        headers={"authorization": f"Bearer {house.http.token}"},
        json={
            "model": model,
            "messages": [{"role": "user", "content": "Colour 4?"}],
            "max_tokens": 12,
            "temperature": 0,
        },
        timeout=60,
    )
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


@pytest.mark.slow
def test_one_command_tunes_registers_deploys(house: House, tmp_path: Path) -> None:
    base, rows = save_tiny(tmp_path / "base"), write_rows(tmp_path / "colours.jsonl")
    words = ["--model", str(base), "--data", str(rows), "--name", "colours", "--steps", "80", "--length", "48"]
    said = house.run("tune", *words, "--lr", "0.01", "--precision", "f16", "--deploy", timeout_s=600)
    assert "「It is " in said
    assert "model://colours@1 is registered: held-out loss" in said
    meta = TrackClient(house.http).version("colours").meta
    assert float(meta["eval_loss_after"]) < float(meta["eval_loss_before"]) - 0.5
    assert ask(house, "colours")["choices"][0]["message"]["content"]

    again = house.json("tune", *words, "--lr", "0.01")
    assert again["number"] == 2


@pytest.mark.slow
def test_smollm2_on_alpaca(house: House, tmp_path: Path) -> None:
    words = ["--data", "alpaca-demo", "--name", "my-assistant", "--steps", "10", "--batch", "2", "--length", "128"]
    said = house.run("tune", *words, "--held-out", "12", "--deploy", timeout_s=900)
    assert "llama.cpp loads it and answers" in said
    version = TrackClient(house.http).version("my-assistant")
    assert float(version.meta["eval_loss_after"]) < float(version.meta["eval_loss_before"])
    assert json.dumps(ask(house, "my-assistant")["choices"][0]["message"]["content"])
