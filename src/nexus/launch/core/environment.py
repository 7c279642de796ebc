"""The environment of every task: what it is, where the others are, and what launchers of gangs read."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from nexus.launch.core.borrowed import borrowed
from nexus.launch.model import RENDEZVOUS
from nexus.launch.protocol import Peer, TaskOrder


def environment(
    order: TaskOrder,
    *,
    ports: Mapping[str, int],
    address: str,
    api_url: str = "",
    outputs: str = "",
    devices: Sequence[str] = (),
) -> dict[str, str]:
    """What a task's process finds in its environment, beside what its machine has.

    `ports` are the task's own, as the agent chose them; `address` is its node's; `outputs` is the folder for results,
    `devices` what the node's accelerators are called where they are not simply numbered.
    A job's own `env` wins over what gangs' launchers read (it may choose another MASTER_PORT), never over NEXUS_*, nor
    over what the launcher it was written for would set.
    """
    mates = _mates(order, ports, address)
    result = _gang(order, mates)
    named = (devices[index] if index < len(devices) else str(index) for index in order.gpus)
    result["CUDA_VISIBLE_DEVICES"] = ",".join(named)  # empty: what a task did not ask for, it cannot see
    result |= order.env
    result |= borrowed(order, mates)
    result |= order.secrets
    result |= _nexus(order, mates, ports)
    result |= {"NEXUS_API_URL": api_url, "NEXUS_OUTPUTS": outputs, "NEXUS_TOKEN": order.token}
    return result


def port_variable(name: str) -> str:
    """`http-admin` is told in `NEXUS_PORT_HTTP_ADMIN`."""
    return "NEXUS_PORT_" + "".join(letter if letter.isalnum() else "_" for letter in name).upper()


def _mates(order: TaskOrder, ports: Mapping[str, int], address: str) -> list[Peer]:
    """The tasks of the same role in rank order, this one with what its agent knows best."""
    me = Peer(order.role, order.index, address, dict(ports))
    others = [peer for peer in order.peers if peer.role == order.role and peer.index != order.index]
    return sorted([me, *others], key=lambda peer: peer.index)


def _nexus(order: TaskOrder, mates: list[Peer], ports: Mapping[str, int]) -> dict[str, str]:
    peers = [
        {"role": peer.role, "index": peer.index, "address": peer.address, "ports": peer.ports} for peer in order.peers
    ]
    return {
        "NEXUS_RUN_ID": order.run,
        "NEXUS_RUN_NAME": order.run_name,
        "NEXUS_TASK_ID": order.task,
        "NEXUS_PROJECT": order.project,
        "NEXUS_ROLE": order.role,
        "NEXUS_INDEX": str(order.index),
        "NEXUS_ATTEMPT": str(order.attempt),
        "NEXUS_NUM_NODES": str(order.count),
        "NEXUS_NODE_ADDRS": ",".join(peer.address for peer in mates),
        "NEXUS_PEERS": json.dumps(peers, separators=(",", ":")),
        **{port_variable(name): str(port) for name, port in ports.items()},
    }


def _gang(order: TaskOrder, mates: list[Peer]) -> dict[str, str]:
    """What torch.distributed, and everything that copies it, reads: one process a task."""
    first = mates[0]
    if first.index != 0 or RENDEZVOUS not in first.ports:
        return {}
    return {
        "MASTER_ADDR": first.address,
        "MASTER_PORT": str(first.ports[RENDEZVOUS]),
        "RANK": str(order.index),
        "WORLD_SIZE": str(order.count),
        "LOCAL_RANK": "0",
        "LOCAL_WORLD_SIZE": "1",
        "NODE_RANK": str(order.index),
        "GROUP_RANK": str(order.index),
        "GROUP_WORLD_SIZE": str(order.count),
    }
