"""Jobs through a real Slurm: machines are its jobs, GPUs are those that it gave, and what it kills is tried again."""

from __future__ import annotations

import os
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.house import House, until
from tests.launch.providers import slurmd

pytestmark = pytest.mark.skipif(bool(slurmd.missing()), reason=slurmd.missing())


class Lab:
    """A house with a fleet on a cluster, and a folder to launch from."""

    def __init__(self, cluster: slurmd.Cluster, house: House, work: Path, scratch: Path) -> None:
        self.cluster, self.house, self.work, self.scratch = cluster, house, work, scratch

    def job(self, text: str) -> Path:
        (self.work / "job.yaml").write_text(text)
        return self.work / "job.yaml"

    def add_fleet(self, name: str) -> None:
        settings = {"conf": self.cluster.conf, "scratch": self.scratch, "partitions": "[gpu]", "price.gpu": 8}
        sets = [word for pair in settings.items() for word in ("--set", "=".join(map(str, pair)))]
        self.house.run("fleet", "add", "slurm", name, "--idle", "2s", *sets)

    def jobs(self) -> list[str]:
        """What Slurm runs or queues for us."""
        return self.cluster.run("squeue", "--noheader", "--format=%i").split()

    def processes(self) -> dict[int, str]:
        """Everything of ours on the cluster's nodes, by its words."""
        found = {}
        for folder in Path("/proc").iterdir():
            try:
                words = (folder / "cmdline").read_bytes() if folder.name.isdigit() else b""
            except OSError:
                continue
            if str(self.scratch).encode() in words or b"only-this-job-sleeps" in words:
                found[int(folder.name)] = words.replace(b"\0", b" ").decode()
        return found

    def agents(self) -> list[int]:
        return [pid for pid, words in self.processes().items() if " nexus.agent " in words]


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with tempfile.TemporaryDirectory(prefix="nexus-slurm-") as name, slurmd.cluster(Path(name)) as cluster:
        house = House(Path(name) / "home")
        for folder in ("work", "scratch"):
            (Path(name) / folder).mkdir()
        try:
            house.up(agent=False)
            found = Lab(cluster, house, Path(name) / "work", Path(name) / "scratch")
            found.add_fleet("lab")
            yield found
        finally:
            house.down()


def test_a_gang_has_the_gpus_that_slurm_gave_it(lab: Lab) -> None:
    job = lab.job("""
name: gang
run: echo "rank=$NEXUS_INDEX of $NEXUS_NUM_NODES gpus=$CUDA_VISIBLE_DEVICES"
nodes: 2
resources: {gpu: "h100:4"}
""")
    plan = lab.house.run("launch", str(job), "--plan")
    assert "CHOSEN    slurm:lab" in plan
    assert "16.00/h" in plan
    assert "list price" in plan
    refused = lab.house.finish("launch", str(job))
    assert "this costs 16.00 per hour" in refused.stderr, "nobody is asked, so it needs --yes"
    done = lab.house.finish("launch", str(job), "--yes", "--follow")
    assert done.returncode == 0, done.stderr
    assert "rank=0 of 2 gpus=0,1,2,3" in done.stdout
    assert "rank=1 of 2 gpus=0,1,2,3" in done.stdout
    until(lambda: not lab.jobs(), "the end of machines that nothing needs")
    assert lab.house.json("nodes") == []
    bill = lab.house.json("cost", "--since", "ever")
    assert bill["total"] > 0
    assert "lab" in [one["fleet"] for one in bill["idle"]]


def test_shares_of_one_node_have_gpus_of_their_own(lab: Lab) -> None:
    job = lab.job("""
name: one
run: echo "gpu=$CUDA_VISIBLE_DEVICES"; sleep 30
resources: {gpu: "h100:1"}
""")
    runs = [lab.house.json("launch", str(job), "--yes", "--detach")["id"] for _ in range(2)]
    logs = [until(lambda run=run: lab.house.run("logs", run, check=False), f"the log of {run}") for run in runs]  # type: ignore[misc]
    devices = {log.split("gpu=")[1].split()[0] for log in logs}
    assert len(devices) == 2, logs
    for run in runs:
        lab.house.run("stop", run)
    until(lambda: not lab.jobs(), "the end of machines that nothing needs")


def test_what_slurm_kills_is_tried_again_and_nothing_of_it_stays(lab: Lab) -> None:
    job = lab.job("""
name: stubborn
run: |
  if [ "$NEXUS_ATTEMPT" = 0 ]; then
    setsid python3 -c 'import time; time.sleep(300)' only-this-job-sleeps
    exit 0
  fi
  echo done
resources: {gpu: "h100:2"}
retry: {max: 1, on: [node_lost], backoff: 0s..1s}
""")
    run = lab.house.json("launch", str(job), "--yes", "--detach")["id"]
    until(lambda: any("only-this-job-sleeps" in words for words in lab.processes().values()), "the first attempt")
    (slurm_job,) = lab.jobs()
    lab.cluster.run("scancel", slurm_job)
    ended = until(lambda: (shown := lab.house.json("runs"))[0]["ended"] and shown[0], "the second attempt")
    assert (ended["state"], ended["attempt"]) == ("succeeded", 1), ended
    assert lab.house.run("logs", run).splitlines()[-1].endswith("done")
    until(lambda: not lab.processes(), "the end of what the first attempt left")


def test_an_agent_that_dies_takes_its_tasks_along_and_its_job_ends(lab: Lab) -> None:
    job = lab.job("""
name: orphan
run: setsid python3 -c 'import time; time.sleep(300)' only-this-job-sleeps
resources: {gpu: "h100:1"}
""")
    run = lab.house.json("launch", str(job), "--yes", "--detach")["id"]
    until(lambda: any("only-this-job-sleeps" in words for words in lab.processes().values()), "the job's start")
    for pid in lab.agents():
        os.kill(pid, signal.SIGKILL)
    until(lambda: not lab.processes(), "the end of everything in the allocation")
    until(lambda: lab.house.json("runs")[0]["ended"], "the run's end")
    assert lab.house.json("show", run)["run"]["cause"] == "node_lost"


def test_a_fleet_that_is_removed_leaves_no_job_in_slurm(lab: Lab) -> None:
    job = lab.job("""
name: last
run: sleep 300
resources: {gpu: "h100:1"}
""")
    lab.house.run("fleet", "pause", "lab")
    lab.add_fleet("short")
    run = lab.house.json("launch", str(job), "--yes", "--detach")["id"]
    until(lambda: lab.house.json("runs")[0]["state"] == "running", "the run's start")
    lab.house.run("stop", run)
    lab.house.run("fleet", "remove", "short")
    until(lambda: not lab.jobs(), "the end of its machines")
    until(lambda: len(lab.house.json("fleet")) == 1, "the end of the fleet")
    assert "short" in [one["fleet"] for one in lab.house.json("cost")["idle"]], "it is on the bill when it is gone"
    lab.house.run("fleet", "pause", "lab", "--off")
    until(lambda: not lab.processes(), "the end of its processes")
    assert not list(lab.scratch.iterdir())
