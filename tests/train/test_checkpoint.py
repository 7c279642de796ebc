"""Checkpoints survive what crashes do to files."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from nexus.kernel.errors import NotFoundError, UsageError
from nexus.train.checkpoint import Checkpoints


def save(checkpoints: Checkpoints, step: int) -> Path:
    return checkpoints.save(step, {"model": {"w": np.full((3, 2), step, np.float32)}}, {"step": step}).path


def test_what_was_saved_comes_back(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path)
    assert checkpoints.latest() is None
    save(checkpoints, 7)
    found = checkpoints.latest()
    assert found is not None
    assert (found.step, found.state) == (7, {"step": 7})
    assert (found.tensors("model", framework="numpy")["w"] == 7).all()
    with pytest.raises(NotFoundError, match="no group 'optimizer'"):
        found.tensors("optimizer", framework="numpy")


def test_the_last_k_are_kept(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, keep=2)
    for step in (1, 2, 10, 9):
        save(checkpoints, step)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-000000000009", "step-000000000010"]


def torn_tail(path: Path) -> None:
    file = path / "tensors.safetensors"
    file.write_bytes(file.read_bytes()[:-1])


def flipped_byte(path: Path) -> None:
    file = path / "tensors.safetensors"
    body = bytearray(file.read_bytes())
    body[-3] ^= 1
    file.write_bytes(body)


def lost_file(path: Path) -> None:
    (path / "tensors.safetensors").unlink()


def no_manifest(path: Path) -> None:
    (path / "manifest.json").unlink()


def half_manifest(path: Path) -> None:
    file = path / "manifest.json"
    file.write_text(file.read_text()[:20])


def strange_manifest(path: Path) -> None:
    (path / "manifest.json").write_text("[]")


def foreign_path(path: Path) -> None:
    file = path / "manifest.json"
    manifest = json.loads(file.read_text())
    manifest["files"]["../../etc/passwd"] = {"sha256": "", "size": 0}
    file.write_text(json.dumps(manifest))


def other_step(path: Path) -> None:
    path.rename(path.with_name("step-000000000099"))


@pytest.mark.parametrize(
    "damage",
    [torn_tail, flipped_byte, lost_file, no_manifest, half_manifest, strange_manifest, foreign_path, other_step],
    ids=lambda damage: damage.__name__,
)
def test_a_torn_checkpoint_is_passed_over(tmp_path: Path, damage, caplog) -> None:
    checkpoints = Checkpoints(tmp_path)
    save(checkpoints, 1)
    damage(save(checkpoints, 2))
    found = checkpoints.latest()
    assert found is not None
    assert found.step == 1
    assert "passing over" in caplog.text


def test_nothing_whole_is_nothing(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path)
    torn_tail(save(checkpoints, 1))
    assert checkpoints.latest() is None


def test_the_same_step_again_replaces(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path)
    flipped_byte(save(checkpoints, 3))
    save(checkpoints, 3)
    found = checkpoints.latest()
    assert found is not None
    assert found.step == 3
    assert len(list(tmp_path.iterdir())) == 1


def test_what_json_cannot_say_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path)
    save(checkpoints, 1)
    for state in ({"loss": float("nan")}, {"model": object()}):
        with pytest.raises(UsageError, match="not plain data"):
            checkpoints.save(2, {}, state)
    assert [path.name for path in tmp_path.iterdir()] == ["step-000000000001"]


def test_the_job_file_wins_over_the_script(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("NEXUS_CHECKPOINTS", str(tmp_path / "there"))
    monkeypatch.setenv("NEXUS_CHECKPOINT_EVERY", "5")
    monkeypatch.setenv("NEXUS_CHECKPOINT_KEEP", "1")
    checkpoints = Checkpoints(keep=9, every=1000)
    assert (checkpoints.directory, checkpoints.keep) == (tmp_path / "there", 1)
    assert [step for step in range(12) if checkpoints.due(step)] == [5, 10]
    monkeypatch.setenv("NEXUS_CHECKPOINT_EVERY", "often")
    with pytest.raises(UsageError, match="'often', not a number"):
        Checkpoints()


WRITER = """
import sys
import numpy as np
from nexus.train.checkpoint import Checkpoints
checkpoints = Checkpoints(sys.argv[1], keep=3)
for step in range(1, 100_000):
    checkpoints.save(step, {"model": {"w": np.full(200_000, step, np.float32)}}, {"step": step})
    print(step, flush=True)
"""


def test_kill_9_while_writing_never_costs_a_finished_checkpoint(tmp_path: Path) -> None:
    last = 0
    for wait in (0.0, 0.013, 0.029):
        writer = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(tmp_path)],
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"PYTHONPATH": "src"},
        )
        assert writer.stdout is not None
        said = [writer.stdout.readline() for _ in range(3)]
        time.sleep(wait)  # not a wait for anything: the kill shall fall at different points of a write
        writer.send_signal(signal.SIGKILL)
        said += writer.stdout.read().splitlines()
        writer.wait()
        writer.stdout.close()
        last = int([line for line in said if line.strip()][-1])
        found = Checkpoints(tmp_path).latest()
        assert found is not None
        assert found.step >= last >= 3
        assert (found.tensors("model", framework="numpy")["w"] == found.step).all()
        for path in tmp_path.iterdir():  # the next writer starts at step 1 again
            if path.name.startswith("step-"):
                path.rename(tmp_path / f".draft-test-{path.name}")
