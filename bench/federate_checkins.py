"""So many simulated clients check in to one server process in one round: check-ins a second, and the round's overhead.

    python -m bench.federate_checkins [CLIENTS] [HOSTS]

A check-in is an update (of a small model) over TLS, judged, synced to the disk and answered. Clients come over HOSTS
connections, each with a certificate of its own. Overhead: from the last answer to the next round's work.
"""

from __future__ import annotations

import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from tests.federate.tasks import Silos

from nexus.federate.adapters import frames
from nexus.federate.adapters.http_client import Line
from nexus.federate.adapters.passport import passport
from nexus.federate.adapters.reach import Direct, Reach
from nexus.federate.core.identity import Holder, dealt
from nexus.federate.protocol import Join, ReceiptState, UpdateHead
from nexus.infra.clock import SystemClock

APP = """
import torch
from torch import nn
from nexus import federate

task = federate.Task(
    model=lambda: nn.Linear(20, 2), clients={clients}, loss=nn.functional.cross_entropy,
    data=lambda client: (torch.ones(4, 20), torch.zeros(4, dtype=torch.long)),
    settings=federate.Settings(rounds=2, cohort={clients}, lost_after_s=300.0),
)
"""
PARAMETERS = 42


def fail(error: Exception) -> None:
    raise error


def main() -> None:
    clients, hosts = (int(word) for word in (sys.argv[1:] + ["10000", "32"][len(sys.argv) - 1 :])[:2])
    folder = Path(tempfile.mkdtemp())
    (folder / "app.py").write_text(APP.format(clients=clients))
    silos = Silos(folder, app=folder / "app.py", count=hosts, fork=False)
    silos.start("server")

    def check_in(index: int) -> float:
        tls = passport({"NEXUS_TOKEN": silos.token}, Holder("client", index), patience=fail).context(server=False)
        line = Line(Reach([Direct("127.0.0.1", silos.port)], tls), patience_s=120, clock=SystemClock())
        line.join(Join(clients=dealt(clients, index, hosts), parameters=PARAMETERS))
        work, path = line.work(), folder / f"update-{index}"
        for client in work.clients:
            head = UpdateHead(number=1, client=client, model=work.model, samples=4, seconds=0.1, loss=None)
            path.write_bytes(frames.pack({"delta": np.ones(PARAMETERS, np.float32)}, head))
            assert line.send_update(1, client, path).state is ReceiptState.ACCEPTED
        done = time.perf_counter()
        while line.work().number != 2:
            pass
        line.close()
        return done

    try:
        while not silos.log("server-0") and silos.processes["server-0"].poll() is None and not silos.journal.exists():
            time.sleep(0.05)
        began = time.perf_counter()
        with ThreadPoolExecutor(hosts) as pool:
            done = max(pool.map(check_in, range(hosts)))
        over = time.perf_counter()
    finally:
        silos.close()
    print(
        f"{clients} check-ins over {hosts} connections in {done - began:.1f} s: {clients / (done - began):.0f} a second"
    )
    print(f"the round's overhead, from the last answer to the next round's work: {over - done:.2f} s")


if __name__ == "__main__":
    main()
