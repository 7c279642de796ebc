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


def here(folder: Path, base: Path, rows: Path, steps: int, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The same fine-tuning in this process; what it said."""
    from click.testing import CliRunner

    from nexus.train.tune import main

    folder.mkdir(exist_ok=True)
    monkeypatch.chdir(folder)
    monkeypatch.setenv("NEXUS_CHECKPOINTS", str(folder / "ck"))
    words = ["--model", str(base), "--data", str(rows), "--name", "colours", "--steps", str(steps), *OPTIONS]
    ran = CliRunner().invoke(main, words)
    assert ran.exit_code == 0, ran.output
    return ran.output.splitlines()


def test_kill_9_and_go_on_gives_the_same_model(tmp_path: Path, base: Path, rows: Path, monkeypatch) -> None:
    from safetensors.torch import load_file

    hit = start(tmp_path / "hit", base, rows, 60)
    assert hit.stdout is not None
    for line in hit.stdout:
        if line.startswith("checkpoint of step 15"):
            hit.send_signal(signal.SIGKILL)
            break
    hit.communicate()
    assert hit.returncode == -9
    assert not (tmp_path / "hit" / "model").exists()

    again = start(tmp_path / "hit", base, rows, 60)
    said = here(tmp_path / "calm", base, rows, 60, monkeypatch)
    resumed, complained = again.communicate(timeout=240)
    assert again.returncode == 0, complained
    assert "going on from the checkpoint of step" in resumed
    assert "eval at step 0" not in resumed, "the first score is paid once"

    one = load_file(tmp_path / "calm" / "model" / "adapter" / "adapter_model.safetensors")
    other = load_file(tmp_path / "hit" / "model" / "adapter" / "adapter_model.safetensors")
    assert one.keys() == other.keys()
    assert all(bool((one[name] == other[name]).all()) for name in one), "bit-equal, dropout included"
    assert card(tmp_path / "calm") == card(tmp_path / "hit")
    assert card(tmp_path / "calm")["after"] < card(tmp_path / "calm")["before"] - 0.5, "it learns"
    assert any("「It is " in line for line in said), "what is trained was shown"
    assert "llama.cpp loads it and answers" in resumed

    requests = list((tmp_path / "hit" / "spool").glob("artifact-*.json"))
    assert len(requests) == 1
    asked = json.loads(requests[0].read_text())
    assert (asked["name"], asked["kind"], asked["meta"]["engine"]) == ("colours", "model", "llama")
    assert sorted(path.name for path in Path(asked["path"]).iterdir()) == ["adapter", "card.json", "model.gguf"]


def test_checkpoints_of_another_fine_tuning_are_refused(tmp_path: Path, base: Path, rows: Path, monkeypatch) -> None:
    here(tmp_path, base, rows, 1, monkeypatch)
    with pytest.raises(AssertionError, match="checkpoints of another fine-tuning"):
        here(tmp_path, base, rows, 2, monkeypatch)


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
    from click.testing import CliRunner

    from nexus.train.tune import main

    ran = CliRunner().invoke(main, ["--model", str(base), "--data", str(rows), "--name", "colours", *words])
    assert ran.exit_code == code
    assert says in ran.output
    assert "→" in ran.output


def test_one_conversion_among_many_processes(tmp_path: Path) -> None:
    """The lock: four processes want the same folder; one makes it, all see it whole."""
    body = (
        "import sys, time\nfrom pathlib import Path\nfrom nexus.train.adapters.cache import once\n"
        "def make(draft):\n"
        "    for n in range(20):\n        (draft / str(n)).write_text('x'); time.sleep(0.005)\n"
        "    print('made', flush=True)\n"
        "print(len(list(once(Path(sys.argv[1]), make).iterdir())))\n"
    )
    target = str(tmp_path / "deep" / "folder")
    many = [subprocess.Popen([sys.executable, "-c", body, target], stdout=subprocess.PIPE, text=True) for _ in range(4)]
    said = [process.communicate(timeout=60)[0].split() for process in many]
    assert sorted(line for lines in said for line in lines) == ["20"] * 4 + ["made"]


def test_a_conversion_that_failed_is_not_kept(tmp_path: Path) -> None:
    from nexus.train.adapters.cache import once

    def fail(draft: Path) -> None:
        (draft / "half").write_text("x")
        raise RuntimeError("no")

    with pytest.raises(RuntimeError):
        once(tmp_path / "folder", fail)
    assert [path.name for path in tmp_path.iterdir()] == [".folder.lock"]
    assert once(tmp_path / "folder", lambda draft: (draft / "whole").touch()).is_dir()
