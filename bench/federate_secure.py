"""Secure aggregation beside Flower's SecAgg+: masks a second, and what a sum of 100 clients costs each side.

    OMP_NUM_THREADS=1 python -m bench.federate_secure [CLIENTS] [PARAMETERS]

One in ten clients vanishes after it has shared its keys, which is the expensive moment: every mask of theirs has to be
taken off. Ours runs the whole protocol, all clients, message by message, in one process. Flower's is its own functions,
in the order in which its client and server call them, with as many neighbours: for three clients and three masks of
each kind on the server, times how many there are (all of them would take minutes). Both include keys, shares, and
signatures where there are any; neither includes a network. CPU seconds, so that a busy machine spoils little.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import time
from collections import defaultdict

import numpy as np
from tests.federate.secure.parties import Parties, inputs

from bench.peer import Figure, peer_python, report
from nexus.federate.core.secure import SECURE
from nexus.federate.core.secure.party import PHASES
from nexus.federate.core.secure.primitives import add_mask

FLOWER = """
import json, os, sys, time
import numpy as np
from flwr.common.secure_aggregation.crypto.shamir import create_shares, combine_shares
from flwr.common.secure_aggregation.crypto import symmetric_encryption as keys
from flwr.supercore.primitives import asymmetric as pairs_of
from flwr.common.secure_aggregation.quantization import quantize
from flwr.common.secure_aggregation import ndarrays_arithmetic as arithmetic
from flwr.common.secure_aggregation.secaggplus_utils import pseudo_rand_gen, share_keys_plaintext_concat

clients, size, degree, threshold, gone = (int(a) for a in sys.argv[1:])
add, subtract, mod = arithmetic.parameters_addition, arithmetic.parameters_subtraction, arithmetic.parameters_mod
MOD, shape, cpu = 1 << 32, [(size,)], time.process_time
pairs = [pairs_of.generate_key_pairs() for _ in range(degree + 1)]
publics = [public for _, public in pairs]
update = [np.random.default_rng(0).normal(size=size).astype(np.float32)]
at, sent = cpu(), 0
for one in range(3):
    own, other = pairs_of.generate_key_pairs()[0], pairs_of.generate_key_pairs()[0]
    seed = os.urandom(32)
    private = pairs_of.private_key_to_bytes(own)
    shares = [create_shares(secret, threshold, degree + 1) for secret in (seed, private)]
    sent = 0
    for neighbour in range(degree):
        box = share_keys_plaintext_concat(one, neighbour, shares[0][neighbour], shares[1][neighbour])
        sent += len(keys.encrypt(keys.generate_shared_key(other, publics[neighbour]), box))
    vector = quantize(update, 8.0, 1 << 22)
    vector = add(vector, pseudo_rand_gen(seed, MOD, shape))
    for neighbour in range(degree):
        mask = pseudo_rand_gen(keys.generate_shared_key(own, publics[neighbour]), MOD, shape)
        vector = (add if neighbour % 2 else subtract)(vector, mask)
    vector = mod(vector, MOD)
    sent += vector[0].nbytes
client = (cpu() - at) / 3
at = cpu()
total = [np.zeros(size, np.int64)]
for _ in range(3):
    total = add(total, vector)
    seed = combine_shares(shares[0][:threshold])
    total = subtract(total, pseudo_rand_gen(seed, MOD, shape))
survivor = (cpu() - at) / 3
at = cpu()
secret = pairs_of.bytes_to_private_key(combine_shares(shares[1][:threshold]))
for neighbour in range(3):
    mask = pseudo_rand_gen(keys.generate_shared_key(secret, publics[neighbour]), MOD, shape)
    total = subtract(total, mask)
pair = (cpu() - at) / 3
alive = degree * (clients - gone) / clients
print(json.dumps([client, survivor * (clients - gone) + pair * gone * alive, sent]))
"""


def masks(words: int) -> Figure:
    """GB of mask made and added in a CPU second."""
    vector, rates = np.zeros(words, np.uint32), []
    for turn in range(8):
        began = time.process_time()
        add_mask(vector, bytes([turn] * 32))
        if turn:
            rates.append(4 * words / (time.process_time() - began) / 1e9)
    return Figure(rates)


def ours(name: str, clients: int, size: int, neighbours: int) -> tuple[float, float, float]:
    """CPU seconds of a client, CPU seconds of the server, bytes that a client sends."""
    scheme = SECURE.get(name)(**({"neighbours": neighbours} if name == "secagg_plus" else {}))
    one = inputs(scheme, clients, 1)
    row = np.arange(size, dtype=np.uint32) % np.uint32(1000)
    parties = Parties(scheme, dict.fromkeys(one, row))
    gone = list(one)[::10]
    parties.vanish = dict.fromkeys(gone, "masked")
    spent, sent = defaultdict(float), 0
    for phase in PHASES:
        for client in parties.server.missing:
            if parties.gone(client, phase):
                continue
            question = parties.server.question(client)
            at = time.process_time()
            answer = parties.clients[client].answer(phase, question)
            middle = time.process_time()
            parties.server.take(client, phase, answer)
            spent["server"] += time.process_time() - middle
            if client not in gone:
                spent["clients"] += middle - at
                sent += len(answer)
        at = time.process_time()
        parties.server.close()
        spent["server"] += time.process_time() - at
    alive = clients - len(gone)
    expected = (row.astype(np.uint64) * alive % scheme.modulus).astype(np.uint32)
    assert (parties.server.sum == expected).all()
    return spent["clients"] / alive, spent["server"], sent / alive


def flower(clients: int, size: int, degree: int, threshold: int, gone: int) -> tuple[float, float, float] | None:
    python = peer_python("flower", "flwr==1.41.0")
    if python is None:
        return None
    arguments = [str(number) for number in (clients, size, degree, threshold, gone)]
    done = subprocess.run([str(python), "-c", FLOWER, *arguments], check=True, capture_output=True, text=True)
    client, server, sent = json.loads(done.stdout)
    return client, server, sent


def main() -> None:
    clients, size = (int(argument) for argument in (sys.argv[1:] + ["100", "1000000"][len(sys.argv) - 1 :]))
    plus = SECURE.get("secagg_plus")()
    degree = plus.degree(clients)
    group = plus.group("bench", 1, 1, tuple(range(clients)), size)
    lines = [
        f"# Secure aggregation: {clients} clients, {size:,} parameters, one in ten vanishes",
        "",
        (
            f"`OMP_NUM_THREADS=1 python -m bench.federate_secure {clients} {size}` on {platform.machine()}, "
            f"{os.cpu_count()} CPUs, load {os.getloadavg()[0]:.1f}; SecAgg+ with {degree} neighbours, "
            f"{group.threshold} of {degree + 1} unmask."
        ),
        "",
        f"Masks made (AES-256-CTR) and added: {masks(25_000_000)} GB a CPU second.",
        "",
        "| | CPU s a client | CPU s of the server | MB a client sends |",
        "|---|---|---|---|",
    ]
    rows = {f"nexus {name}": ours(name, clients, size, degree) for name in ("secagg_plus", "lightsecagg")}
    peer = flower(clients, size, degree, group.threshold, len(range(0, clients, 10)))
    if peer is not None:
        rows["Flower 1.41 SecAgg+ (its functions; MT19937 masks of a 32-bit seed)"] = peer
    bare = flower(clients, 1, degree, group.threshold, len(range(0, clients, 10)))
    if bare is not None:
        rows["of which keys and shares (a model of one parameter)"] = bare
    lines += [f"| {name} | {a:.3g} | {b:.3g} | {c / 1e6:.2f} |" for name, (a, b, c) in rows.items()]
    report("federate_secure", "\n".join(lines))


if __name__ == "__main__":
    main()
