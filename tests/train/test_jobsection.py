"""`kind: train` as a plan."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from nexus.kernel.errors import UsageError
from nexus.kernel.units import Range
from nexus.launch.core.compile import compile_job
from nexus.launch.core.environment import environment
from nexus.launch.core.spec import JobSpec
from nexus.launch.model import RENDEZVOUS, Retry, RunPlan
from nexus.launch.protocol import Peer, TaskOrder
from nexus.train.core.jobsection import TrainSection


def plan_of(section: dict[str, Any] | None = None, **job: Any) -> RunPlan:
    sections = {} if section is None else {"train": TrainSection.model_validate(section)}
    return compile_job(JobSpec.model_validate({"kind": "train", "run": "python train.py", **job, "sections": sections}))


def test_workers_are_a_gang_that_meets() -> None:
    (worker,) = plan_of({"workers": 3}).roles
    assert (worker.name, worker.count, worker.gang) == ("worker", 3, True)
    assert [port.name for port in worker.ports] == [RENDEZVOUS]
    assert plan_of(nodes=4).roles[0].count == 4


def test_what_torchrun_reads_is_in_the_environment() -> None:
    (worker,) = plan_of({"workers": 2}).roles
    peers = tuple(Peer("worker", index, f"10.0.0.{index + 1}", {RENDEZVOUS: 4000 + index}) for index in range(2))
    order = TaskOrder(
        task="t",
        run="r",
        run_name="n",
        project="p",
        role="worker",
        index=1,
        count=2,
        attempt=0,
        epoch=1,
        lease_s=60,
        peers=peers,
        env=worker.env,
    )
    given = environment(order, ports={RENDEZVOUS: 4001}, address="10.0.0.2")
    names = ("MASTER_ADDR", "MASTER_PORT", "RANK", "WORLD_SIZE", "LOCAL_RANK")
    assert [given[name] for name in names] == ["10.0.0.1", "4000", "1", "2", "0"]


def test_checkpoints_are_told_to_the_script_and_bring_retries() -> None:
    plan = plan_of({"checkpoint": {"every": 50, "keep": 3}})
    assert plan.roles[0].env == {"NEXUS_CHECKPOINT_EVERY": "50", "NEXUS_CHECKPOINT_KEEP": "3"}
    assert plan.retry == Retry(3, ("node_lost", "spot_reclaimed", "signal", "exit"), Range(5.0, 300.0))
    assert plan_of({"checkpoint": 50}).roles[0].env["NEXUS_CHECKPOINT_EVERY"] == "50"
    assert plan_of().retry.max == 0
    own = plan_of({"checkpoint": 50}, retry={"max": 1, "on": ["exit"]})
    assert (own.retry.max, own.retry.on) == (1, ("exit",))


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(UsageError, match="nothing to run"):
        plan_of(run="")
    for wrong in ({"parallel": "telepathy"}, {"workers": 0}, {"checkpoint": {"evry": 1}}):
        with pytest.raises(ValidationError):
            TrainSection.model_validate(wrong)
