"""The digits job by hand: without a server it learns, and leaves a model that nobody has to unpickle."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent.parent.parent / "examples" / "digits"


def test_it_learns_by_hand(tmp_path: Path) -> None:
    np = pytest.importorskip("numpy")
    pytest.importorskip("sklearn")
    from sklearn.datasets import load_digits

    environ = {name: value for name, value in os.environ.items() if not name.startswith("NEXUS_")}
    environ |= {"NEXUS_OUTPUTS": str(tmp_path), "OMP_NUM_THREADS": "1", "EPOCHS": "8"}
    done = subprocess.run(
        [sys.executable, "train.py"], cwd=FOLDER, env=environ, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    lines = [line for line in done.stdout.splitlines() if line.startswith("epoch")]
    assert len(lines) == 8
    card = json.loads((tmp_path / "model/card.json").read_text())
    assert card["accuracy"] > 0.95
    assert f"accuracy {card['accuracy']:.4f}" in lines[-1]

    # The file alone is the model: no code of the job, no pickle.
    with np.load(tmp_path / "model/model.npz", allow_pickle=False) as saved:
        layers = [(saved[f"coefs_{index}"], saved[f"intercepts_{index}"]) for index in range(len(saved.files) // 2)]
    images, labels = load_digits(return_X_y=True)
    values = images / 16.0
    for index, (weights, bias) in enumerate(layers):
        values = values @ weights + bias
        values = np.maximum(values, 0) if index + 1 < len(layers) else values
    assert (values.argmax(axis=1) == labels).mean() > 0.97
