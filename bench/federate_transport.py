"""A silo's update to the server over TLS, beside what a bare TLS socket moves: GB/s, in the same run, in turns.

    python -m bench.federate_transport [MEGABYTES]

Both ends are processes on loopback with certificates of one authority. Ours writes the update to a file, in chunks, and
checks the whole by its checksum; the bare socket throws away what it reads.
"""

from __future__ import annotations

import asyncio
import os
import socket
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np

from nexus.federate.adapters.chunks import Incoming, checksum
from nexus.federate.adapters.http_client import Line
from nexus.federate.adapters.http_server import application, web_server
from nexus.federate.adapters.passport import passport
from nexus.federate.adapters.reach import Direct, Reach
from nexus.federate.core.identity import Holder
from nexus.federate.protocol import Receipt, ReceiptState, Upload
from nexus.infra.clock import SystemClock

REPEAT = 5


def fail(error: Exception) -> None:
    raise error


def context(role: str, *, server: bool):
    return passport({"NEXUS_TOKEN": "bench"}, Holder(role, 0), patience=fail).context(server=server)


def child(work: Callable[[socket.socket], None]) -> tuple[int, int]:
    """A forked process with a listening socket; its pid and port."""
    listener = socket.create_server(("127.0.0.1", 0))
    pid = os.fork()
    if pid == 0:
        work(listener)
        os._exit(0)
    return pid, listener.getsockname()[1]


def bare_server(listener: socket.socket) -> None:
    tls, buffer = context("server", server=True), bytearray(1 << 18)
    while True:
        with tls.wrap_socket(listener.accept()[0], server_side=True) as line:
            left = int.from_bytes(line.recv(8), "big")
            while left:
                left -= line.recv_into(buffer)
            line.sendall(b"k")


def our_server(listener: socket.socket) -> None:
    incoming = Incoming(Path(tempfile.mkdtemp()))

    async def receive(_: int, upload: Upload, offset: int, data: bytes) -> Receipt:
        key = (upload.number, upload.client, upload.check)
        held = await asyncio.to_thread(incoming.add, *key, offset, data)
        if held < upload.size:
            return Receipt(state=ReceiptState.PARTIAL, held=held)
        assert await asyncio.to_thread(checksum, incoming.path(*key)) == upload.check
        incoming.drop(*key)
        return Receipt(state=ReceiptState.ACCEPTED)

    app = application(SimpleNamespace(receive=receive), lambda _: 0)  # type: ignore[arg-type]
    asyncio.run(web_server(app, context("server", server=True)).serve(sockets=[listener]))


def main() -> None:
    size = int(sys.argv[1] if len(sys.argv) > 1 else "100") * 1_000_000
    path = Path(tempfile.mkdtemp()) / "update"
    path.write_bytes(np.random.default_rng(0).normal(size=size // 4).astype(np.float32).tobytes())
    content, children = path.read_bytes(), [child(bare_server), child(our_server)]
    tls, reach = context("client", server=False), None
    figures: dict[str, list[float]] = {"bare": [], "ours": []}
    try:
        reach = Reach([Direct("127.0.0.1", children[1][1])], context("client", server=False))
        line = Line(reach, patience_s=10, clock=SystemClock())
        for _ in range(REPEAT):
            began = time.perf_counter()
            with tls.wrap_socket(socket.create_connection(("127.0.0.1", children[0][1]))) as plain:
                plain.sendall(size.to_bytes(8, "big"))
                plain.sendall(content)
                assert plain.recv(1) == b"k"
            figures["bare"].append(size / (time.perf_counter() - began) / 1e9)
            began = time.perf_counter()
            assert line.send_update(1, 0, path).state is ReceiptState.ACCEPTED
            figures["ours"].append(size / (time.perf_counter() - began) / 1e9)
        line.close()
    finally:
        for pid, _ in children:
            os.kill(pid, 9)
            os.waitpid(pid, 0)
        path.unlink()
    for name, values in figures.items():
        print(f"{name}: median {statistics.median(values):.3f} GB/s, best {max(values):.3f}")
    ratio = statistics.median(b / o for b, o in zip(figures["bare"], figures["ours"], strict=True))
    print(f"bare / ours, in pairs: {ratio:.2f}")


if __name__ == "__main__":
    main()
