"""The example of `examples/ddp`, as a gang of real processes that is killed and goes on."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from nexus.kernel.errors import UsageError
from nexus.train.checkpoint import Checkpoint, Checkpoints
from tests.ports import free_port

pytestmark = pytest.mark.torch
ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "examples" / "ddp" / "train.py"


def run_gang(folder: Path, *arguments: str, world: int = 2, attempt: int = 0) -> tuple[list[int], list[str]]:
    """Start the gang as an agent does, wait for all; exit codes (negative: signals) and what each said.

    Only rank 0 has the folder of checkpoints, as when the others run on another machine.
    """
    port, gang = free_port(), []
    for rank in range(world):
        own = folder if rank == 0 else folder / f"elsewhere-{rank}"
        environment = os.environ | {
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(port),
            "RANK": str(rank),
            "WORLD_SIZE": str(world),
            "LOCAL_RANK": "0",
            "NEXUS_ATTEMPT": str(attempt),
            "NEXUS_CHECKPOINTS": str(own),
            "OMP_NUM_THREADS": "1",
        }
        gang.append(
            subprocess.Popen(
                [sys.executable, str(SCRIPT), "--epochs", "2", "--checkpoint-every", "4", *arguments],
                env=environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
        )
    said = [process.communicate(timeout=120)[0] for process in gang]
    return [process.returncode for process in gang], said


def final(folder: Path) -> Checkpoint:
    found = Checkpoints(folder).latest()
    assert found is not None
    return found


def test_a_gang_that_was_killed_ends_like_one_that_was_not(tmp_path: Path) -> None:
    import torch

    codes, said = run_gang(tmp_path / "calm")
    assert codes == [0, 0], said
    assert "from step 0 of 44" in said[0]

    codes, said = run_gang(tmp_path / "hit", "--crash-at", "14")
    assert codes[1] == -9
    assert codes[0] not in {0, -9}, "the survivor must not wait for ever, nor call it success"
    assert final(tmp_path / "hit").step == 12

    codes, said = run_gang(tmp_path / "hit", "--crash-at", "14", attempt=1)
    assert codes == [0, 0], said
    assert "attempt 1: 2 processes, from step 12 of 44" in said[0]

    calm, hit = final(tmp_path / "calm"), final(tmp_path / "hit")
    assert calm.step == hit.step == 44
    assert calm.state == hit.state
    assert calm.state["accuracy"] > 0.5, "it learns: chance is one in ten"
    ours, theirs = calm.tensors("model"), hit.tensors("model")
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours), "bit-equal"


def test_the_same_script_runs_alone(tmp_path: Path) -> None:
    ran = subprocess.run(
        [sys.executable, str(SCRIPT), "--epochs", "1"],
        env=os.environ | {"NEXUS_CHECKPOINTS": str(tmp_path), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert "1 processes, from step 0 of 44" in ran.stdout


def test_half_an_environment_is_an_error() -> None:
    from nexus.train import ddp

    with pytest.raises(UsageError, match="WORLD_SIZE, MASTER_ADDR, MASTER_PORT"):
        ddp.init(environ={"RANK": "0"})


def test_optimizer_and_random_numbers_go_on(tmp_path: Path) -> None:
    import torch

    from nexus.train.torchstate import optimizer_state, random_state, restore_optimizer, restore_random_state

    def step(model: torch.nn.Module, optimizer: torch.optim.Optimizer) -> None:
        optimizer.zero_grad()
        torch.nn.functional.dropout(model(torch.randn(4, 3)), 0.5).square().sum().backward()  # type: ignore[no-untyped-call]
        optimizer.step()

    torch.manual_seed(1)
    model = torch.nn.Linear(3, 2)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
    step(model, optimizer)
    groups = {"model": model.state_dict(), "optimizer": optimizer_state(optimizer), "rng": random_state()}
    Checkpoints(tmp_path).save(1, groups)
    step(model, optimizer)

    found = final(tmp_path)
    again = torch.nn.Linear(3, 2)
    other = torch.optim.AdamW(again.parameters(), lr=0.1)
    again.load_state_dict(found.tensors("model"))
    restore_optimizer(other, found.tensors("optimizer"))
    restore_random_state(found.tensors("rng"))
    step(again, other)
    assert torch.equal(model.weight, again.weight)
