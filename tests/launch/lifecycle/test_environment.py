"""The environment of tasks."""

from __future__ import annotations

import json
from typing import Any

from nexus.launch.core.environment import environment
from nexus.launch.protocol import Peer, TaskOrder


def order(**more: Any) -> TaskOrder:
    fields: dict[str, Any] = {
        "task": "task_1",
        "run": "run_1",
        "run_name": "x",
        "project": "p",
        "role": "worker",
        "index": 1,
        "count": 2,
        "attempt": 3,
        "epoch": 1,
        "lease_s": 30.0,
        "token": "secret",
    }
    return TaskOrder(**(fields | more))


def test_every_task_learns_what_it_is() -> None:
    found = environment(
        order(env={"SEED": "1", "NEXUS_INDEX": "no"}), ports={"http": 8000}, address="10.0.0.2", api_url="http://s"
    )
    assert found["NEXUS_RUN_ID"] == "run_1"
    assert found["NEXUS_ROLE"] == "worker"
    assert (found["NEXUS_INDEX"], found["NEXUS_ATTEMPT"], found["NEXUS_NUM_NODES"]) == ("1", "3", "2")
    assert (found["NEXUS_PORT_HTTP"], found["NEXUS_TOKEN"], found["SEED"]) == ("8000", "secret", "1")
    assert found["NEXUS_API_URL"] == "http://s"
    assert found["CUDA_VISIBLE_DEVICES"] == ""
    assert "MASTER_ADDR" not in found
    assert not any(name.startswith("FEDML") for name in found)


def test_a_gang_finds_its_first_task() -> None:
    peers = (
        Peer("server", 0, "10.0.0.9", {"http": 80}),
        Peer("worker", 0, "10.0.0.1", {"rendezvous": 29400}),
        Peer("worker", 1, "10.0.0.2", {"rendezvous": 29401}),
    )
    found = environment(order(peers=peers, gpus=(0, 2)), ports={"rendezvous": 29401}, address="10.0.0.2")
    assert (found["MASTER_ADDR"], found["MASTER_PORT"]) == ("10.0.0.1", "29400")
    assert (found["RANK"], found["WORLD_SIZE"], found["LOCAL_RANK"]) == ("1", "2", "0")
    assert found["NEXUS_NODE_ADDRS"] == "10.0.0.1,10.0.0.2"
    assert found["CUDA_VISIBLE_DEVICES"] == "0,2"
    assert [peer["role"] for peer in json.loads(found["NEXUS_PEERS"])] == ["server", "worker", "worker"]


def test_a_job_may_choose_its_own_master_port() -> None:
    peers = (Peer("worker", 0, "10.0.0.1", {"rendezvous": 29400}),)
    found = environment(order(peers=peers, env={"MASTER_PORT": "1"}), ports={}, address="10.0.0.2")
    assert found["MASTER_PORT"] == "1"


def test_fedml_jobs_get_fedml_names() -> None:
    found = environment(order(env={"FEDML_JOB": "1"}), ports={}, address="a")
    assert found["FEDML_CURRENT_RUN_ID"] == "run_1"
    assert found["FEDML_CLIENT_RANK"] == "2"


GANG = (Peer("main", 0, "10.0.0.1", {}), Peer("main", 1, "10.0.0.2", {}))


def test_skypilot_jobs_get_skypilot_names() -> None:
    mine = order(role="main", peers=GANG, gpus=(0, 3), env={"SKYPILOT_NUM_NODES": "9"})
    found = environment(mine, ports={}, address="10.0.0.2")
    assert {name: value for name, value in found.items() if name.startswith("SKYPILOT_")} == {
        "SKYPILOT_TASK_ID": "run_1",
        "SKYPILOT_NODE_RANK": "1",
        "SKYPILOT_NODE_IPS": "10.0.0.1\n10.0.0.2",
        "SKYPILOT_NUM_NODES": "2",
        "SKYPILOT_NUM_GPUS_PER_NODE": "2",
    }


def test_dstack_jobs_get_dstack_names() -> None:
    mine = order(role="main", peers=GANG, gpus=(0, 3), env={"DSTACK_RUN_NAME": ""})
    found = environment(mine, ports={}, address="10.0.0.2")
    assert {name: value for name, value in found.items() if name.startswith("DSTACK_")} == {
        "DSTACK_RUN_NAME": "x",
        "DSTACK_RUN_ID": "run_1",
        "DSTACK_JOB_ID": "task_1",
        "DSTACK_NODE_RANK": "1",
        "DSTACK_NODES_NUM": "2",
        "DSTACK_NODES_IPS": "10.0.0.1\n10.0.0.2",
        "DSTACK_MASTER_NODE_IP": "10.0.0.1",
        "DSTACK_GPUS_PER_NODE": "2",
        "DSTACK_GPUS_NUM": "4",
    }


def test_nodes_of_several_groups_are_counted_through() -> None:
    peers = (Peer("head", 0, "10.0.0.9", {}), *GANG)
    found = environment(order(role="main", peers=peers, env={"DSTACK_RUN_NAME": ""}), ports={}, address="10.0.0.2")
    assert (found["DSTACK_NODE_RANK"], found["DSTACK_NODES_NUM"]) == ("2", "3")
    assert found["DSTACK_MASTER_NODE_IP"] == "10.0.0.9"


def test_a_replica_is_by_itself() -> None:
    peers = (Peer("replica", 0, "10.0.0.1", {"http": 1}), Peer("replica", 1, "10.0.0.2", {"http": 1}))
    names = {"SKYPILOT_NUM_NODES": "1", "DSTACK_RUN_NAME": ""}
    found = environment(order(role="replica", peers=peers, env=names), ports={"http": 1}, address="10.0.0.2")
    assert (found["SKYPILOT_NODE_RANK"], found["SKYPILOT_NUM_NODES"]) == ("0", "1")
    assert (found["SKYPILOT_NODE_IPS"], found["SKYPILOT_SERVE_REPLICA_ID"]) == ("10.0.0.2", "1")
    assert (found["DSTACK_NODES_NUM"], found["DSTACK_MASTER_NODE_IP"]) == ("1", "10.0.0.2")
