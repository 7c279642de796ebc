"""A whole fine-tuning on a tiny model: it learns, it goes on after kill -9, and what it leaves is usable."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.train.tiny import save_tiny, write_rows

pytestmark = pytest.mark.torch
OPTIONS = (
    "--length",
    "48",
    "--batch",
    "4",
    "--lr",
    "0.01",
    "--dropout",
    "0.1",
    "--checkpoint-every",
    "5",
    "--seed",
    "3",
)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_rows(tmp_path_factory.mktemp("rows") / "colours.jsonl")


def start(folder: Path, base: Path, rows: Path, steps: int, *more: str) -> subprocess.Popen[str]:
    folder.mkdir(exist_ok=True)
    words = ["--model", str(base), "--data", str(rows), "--name", "colours", "--steps", str(steps)]
    spool = folder / "spool"
    spool.mkdir(exist_ok=True)
    environment = {"NEXUS_CHECKPOINTS": str(folder / "ck"), "NEXUS_SPOOL": str(spool), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, "-m", "nexus.train.tune", *words, *OPTIONS, *more],
        cwd=folder,
        env=os.environ | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def card(folder: Path) -> dict[str, float]:
    found = json.loads((folder / "model" / "card.json").read_text())
    return {"before": found["before"]["loss"], "after": found["after"]["loss"]}


def test_kill_9_and_go_on_gives_the_same_model(tmp_path: Path, base: Path, rows: Path) -> None:
    from safetensors.torch import load_file

    calm = start(tmp_path / "calm", base, rows, 60)
    hit = start(tmp_path / "hit", base, rows, 60)
    assert hit.stdout is not None
    for line in hit.stdout:
        if line.startswith("checkpoint of step 15"):
            hit.send_signal(signal.SIGKILL)
            break
    hit.communicate()
    assert hit.returncode == -9
    assert not (tmp_path / "hit" / "model").exists()
    said, complained = calm.communicate(timeout=120)
    assert calm.returncode == 0, complained

    again = start(tmp_path / "hit", base, rows, 60)
    resumed, complained = again.communicate(timeout=120)
    assert again.returncode == 0, complained
    assert "going on from the checkpoint of step" in resumed
    assert "eval at step 0" not in resumed, "the first score is paid once"

    one = load_file(tmp_path / "calm" / "model" / "adapter" / "adapter_model.safetensors")
    other = load_file(tmp_path / "hit" / "model" / "adapter" / "adapter_model.safetensors")
    assert one.keys() == other.keys()
    assert all(bool((one[name] == other[name]).all()) for name in one), "bit-equal, dropout included"
    assert card(tmp_path / "calm") == card(tmp_path / "hit")
    assert card(tmp_path / "calm")["after"] < card(tmp_path / "calm")["before"] - 1, "it learns"
    assert "「It is " in said, "what is trained was shown"

    requests = list((tmp_path / "calm" / "spool").glob("artifact-*.json"))
    assert len(requests) == 1
    asked = json.loads(requests[0].read_text())
    assert (asked["name"], asked["kind"], asked["meta"]["engine"]) == ("colours", "model", "llama")
    kept = Path(asked["path"])
    assert sorted(path.name for path in kept.iterdir()) == ["adapter", "card.json", "model.gguf"]
    assert "llama.cpp loads it and answers" in said


def test_checkpoints_of_another_fine_tuning_are_refused(tmp_path: Path, base: Path, rows: Path) -> None:
    first = start(tmp_path, base, rows, 1)
    first.communicate(timeout=120)
    assert first.returncode == 0
    second = start(tmp_path, base, rows, 2)
    _, complained = second.communicate(timeout=120)
    assert second.returncode == 2
    assert "checkpoints of another fine-tuning" in complained
    assert "→" in complained


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (("--model", "nosuch"), 4, "no base model 'nosuch'"),
        (("--data", "nosuch"), 4, "no data 'nosuch'"),
        (("--name", "Not A Name"), 2, "Call it 'not-a-name'"),
        (("--lr", "7"), 2, "the learning rate is 7.0"),
    ],
)
def test_bad_words_end_with_a_next_step(tmp_path: Path, base: Path, rows: Path, words, code: int, says: str) -> None:
    process = start(tmp_path, base, rows, 1, *words)
    _, complained = process.communicate(timeout=60)
    assert process.returncode == code
    assert says in complained
    assert "→" in complained
    assert "Traceback" not in complained
