"""Federated and distributed runs through the whole house: real processes, a network, a death in the middle."""

from __future__ import annotations

import itertools
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from nexus.federate.faces.client import FederateClient
from tests.e2e.house import REPOSITORY, House

pytestmark = pytest.mark.torch

ROUNDS = 4


def test_a_federated_run_gives_the_model_of_its_simulation(standing: House) -> None:
    """One server and three clients over the network, and the same file simulated: the same seed, the same model."""
    done = standing.finish(
        "launch", "examples/federated/job.yaml", "--yes", "--follow", "--set", f"federate.rounds={ROUNDS}"
    )
    assert done.returncode == 0, done.stdout + done.stderr
    run = standing.json("show", "federated-digits")["run"]["id"]
    posted = FederateClient(standing.http).rounds(run)
    simulated = json.loads(
        subprocess.run(
            [sys.executable, "-m", "nexus", "federate", "simulate", "examples/federated/app.py", "--json",
             "--algorithm", "scaffold", "--rounds", str(ROUNDS)],
            capture_output=True, text=True, check=True, cwd=REPOSITORY, env=standing.environ,
        ).stdout
    )  # fmt: skip
    assert len(posted) == len(simulated["rounds"]) == ROUNDS
    for over_network, in_simulation in zip(posted, simulated["rounds"], strict=True):
        for name, value in in_simulation["metrics"].items():
            assert over_network.metrics[name] == pytest.approx(value, rel=1e-5)
        assert [turn.client for turn in over_network.turns] == [turn["client"] for turn in in_simulation["turns"]]


BEHIND_NAT = """
import os

if os.environ.get("NEXUS_ROLE") == "client":
    os.environ["NEXUS_SERVER_ADDR"] = "127.0.0.1:1"  # nobody listens there, as behind NAT
"""


def test_a_federated_server_that_nobody_can_dial_is_reached_through_the_control_plane(
    standing: House, tmp_path: Path
) -> None:
    shutil.copytree(REPOSITORY / "examples" / "federated", tmp_path / "job")
    app = tmp_path / "job" / "app.py"
    app.write_text(app.read_text() + BEHIND_NAT)
    job = "rounds=2", "clients=2"
    sets = [word for change in job for word in ("--set", f"federate.{change}")]
    done = standing.finish(
        "launch", str(tmp_path / "job" / "job.yaml"), "--set", "name=behind-nat", "--yes", "--follow", *sets
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "way=127.0.0.1:1" in done.stdout, "the address is tried first"
    assert "the control plane's relay" in done.stdout
    rounds = FederateClient(standing.http).rounds("behind-nat")
    assert [(one.number, one.accepted == one.cohort) for one in rounds] == [(1, True), (2, True)]


LOST_MACHINE = """
import os

if os.environ.get("NEXUS_ROLE") == "server" and os.environ.get("NEXUS_ATTEMPT") == "0":
    import shutil, signal, threading, time
    from pathlib import Path

    import nexus

    def fall() -> None:  # once two rounds are kept elsewhere, as a machine does that takes its disk with it
        client = nexus.Client(os.environ["NEXUS_API_URL"], os.environ["NEXUS_TOKEN"])
        while sum(one.name == "federate-journal" for one in client.track.artifacts(os.environ["NEXUS_RUN_ID"])) < 2:
            time.sleep(0.05)
        shutil.rmtree(Path(os.environ["NEXUS_CHECKPOINTS"]) / "federate")
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=fall, daemon=True).start()
"""


def test_a_federated_server_goes_on_where_its_journal_is_not(standing: House, tmp_path: Path) -> None:
    shutil.copytree(REPOSITORY / "examples" / "federated", tmp_path / "job")
    app = tmp_path / "job" / "app.py"
    app.write_text(app.read_text() + LOST_MACHINE)
    sets = [
        word for one in ("name=lost-machine", "federate.rounds=12", "federate.clients=2") for word in ("--set", one)
    ]
    done = standing.finish("launch", str(tmp_path / "job" / "job.yaml"), "--yes", "--follow", *sets, timeout_s=180)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "federate.restored" in done.stdout, done.stdout + standing.run("artifacts", "list", "lost-machine")
    assert {task["attempt"] for task in standing.json("show", "lost-machine")["tasks"]} == {0, 1}
    rounds = FederateClient(standing.http).rounds("lost-machine")
    assert [one.number for one in rounds] == list(range(1, 13))
    assert all(one.parent == before.model for before, one in itertools.pairwise(rounds))


def test_a_gang_that_loses_a_process_goes_on_from_its_checkpoint(standing: House) -> None:
    """Two DDP processes under a rendezvous; one kills itself at step 50; the second attempt begins at step 40."""
    done = standing.finish("launch", "examples/ddp/job.yaml", "--yes", "--follow", timeout_s=300)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "kills itself at step 50" in done.stdout
    assert "from step 0 of 88" in done.stdout
    assert "from step 40 of 88" in done.stdout
    shown = standing.json("show", "digits-ddp")
    assert shown["run"]["state"] == "succeeded"
    assert {task["attempt"] for task in shown["tasks"]} == {0, 1}
    curves = standing.http.get("/v1/runs/digits-ddp/metrics/loss", list[dict[str, object]])
    assert len(curves) == 2, "one curve an attempt"
