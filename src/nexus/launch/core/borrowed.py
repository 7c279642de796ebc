"""What jobs written for other launchers read in their environment: given to those that name such a variable."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from nexus.launch.model import RENDEZVOUS
from nexus.launch.protocol import Peer, TaskOrder

_ALONE = "replica"  # the role of a deployment: each of its tasks serves by itself


def borrowed(order: TaskOrder, mates: Sequence[Peer]) -> dict[str, str]:
    """The variables of each launcher that the job's own `env` names; `mates` are the role's tasks in rank order."""
    result: dict[str, str] = {}
    for prefix, variables in _LAUNCHERS.items():
        if any(name.startswith(prefix) for name in order.env):
            result |= variables(order, mates)
    return result


def _fedml(order: TaskOrder, mates: Sequence[Peer]) -> dict[str, str]:
    return {
        "FEDML_CURRENT_RUN_ID": order.run,
        "FEDML_CURRENT_EDGE_ID": order.task,
        "FEDML_CLIENT_RANK": str(0 if order.role == "server" else order.index + 1),
        "FEDML_NUM_NODES": str(order.count),
        "FEDML_NODE_0_ADDR": mates[0].address,
        "FEDML_NODE_0_PORT": str(mates[0].ports.get(RENDEZVOUS, 0)),
        "FEDML_USING_MLOPS": "true",
        "FEDML_RUN_API_KEY": order.token,
    }


def _skypilot(order: TaskOrder, mates: Sequence[Peer]) -> dict[str, str]:
    """Ranks from 0, addresses on a line each, as many accelerators as this task holds."""
    rank, addresses = _places(order, mates)
    names = {"SKYPILOT_SERVE_REPLICA_ID": str(order.index)} if order.role == _ALONE else {}
    return names | {
        "SKYPILOT_TASK_ID": order.run,
        "SKYPILOT_NODE_RANK": str(rank),
        "SKYPILOT_NODE_IPS": "\n".join(addresses),
        "SKYPILOT_NUM_NODES": str(len(addresses)),
        "SKYPILOT_NUM_GPUS_PER_NODE": str(len(order.gpus)),
    }


def _dstack(order: TaskOrder, mates: Sequence[Peer]) -> dict[str, str]:
    """As SkyPilot's; nodes of several groups are counted through, in the order of the groups."""
    rank, addresses = _places(order, mates)
    return {
        "DSTACK_RUN_NAME": order.run_name,
        "DSTACK_RUN_ID": order.run,
        "DSTACK_JOB_ID": order.task,
        "DSTACK_NODE_RANK": str(rank),
        "DSTACK_NODES_NUM": str(len(addresses)),
        "DSTACK_NODES_IPS": "\n".join(addresses),
        "DSTACK_MASTER_NODE_IP": addresses[0],
        "DSTACK_GPUS_PER_NODE": str(len(order.gpus)),
        "DSTACK_GPUS_NUM": str(len(order.gpus) * len(addresses)),
    }


def _places(order: TaskOrder, mates: Sequence[Peer]) -> tuple[int, list[str]]:
    """This task's place among the run's nodes, and the addresses of all. A replica is by itself."""
    me = next(mate for mate in mates if mate.index == order.index)
    if order.role == _ALONE:
        return 0, [me.address]
    everyone = list(mates)
    if any(peer.role != order.role for peer in order.peers):
        everyone = [me if _is(peer, order) else peer for peer in order.peers]
    rank = next((place for place, peer in enumerate(everyone) if _is(peer, order)), 0)
    return rank, [peer.address for peer in everyone]


def _is(peer: Peer, order: TaskOrder) -> bool:
    return (peer.role, peer.index) == (order.role, order.index)


_LAUNCHERS: dict[str, Callable[[TaskOrder, Sequence[Peer]], dict[str, str]]] = {
    "FEDML_": _fedml,
    "SKYPILOT_": _skypilot,
    "DSTACK_": _dstack,
}
