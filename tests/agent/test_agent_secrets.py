"""A task has its secrets, and nobody else: not its log, not the disk once it runs, not a task of another project."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nexus.agent.adapters.environments import environment_hash
from nexus.agent.adapters.home import Home
from nexus.agent.adapters.journal import FileJournal
from nexus.agent.adapters.shim import spool as spool_module
from nexus.agent.adapters.shim.masks import SHORTEST, Masks
from nexus.agent.adapters.shim.spool import FRAME_BODY_B, LineReader, LogSpool
from nexus.agent.core.secrecy import secret_values, sharers
from nexus.agent.model import LocalTask
from nexus.kernel.logframes import parse
from nexus.launch.model import TaskState
from nexus.launch.protocol import TaskOrder
from tests.agent.conftest import agent_in_process
from tests.agent.server import Server, is_final, until

SECRET = "hf_QzPxr7canary"
KEY = "-----BEGIN KEY-----\nMIIEvQIBADANBg\nkqhkiG9w0BAQEF\n-----END KEY-----\n"


def logged(folder: Path, pieces: list[bytes], secrets: list[str], *, quiet: bool = False) -> bytes:
    """What a log holds of these writes; with `quiet`, each is followed by half a second of silence."""
    spool = LogSpool(str(folder), 1 << 30)
    read, write = os.pipe()
    reader = LineReader(read, b"o", spool, Masks(secrets))
    for piece in pieces:
        for start in range(0, len(piece), 16_000):
            os.write(write, piece[start : start + 16_000])
            reader.read()
        if quiet:
            reader.flush(whole=False)
    os.close(write)
    while reader.read():
        pass
    os.close(read)
    spool.close()
    raw = b"".join(file.read_bytes() for file in sorted(folder.iterdir()))
    lines = [parse(one) for one in raw.split(b"\n")[:-1]]
    return "".join(line.text + ("\n" if line.whole else "") for line in lines).encode()


@pytest.mark.parametrize("quiet", [False, True])
@pytest.mark.parametrize("cut", range(len(SECRET) + 1))
def test_a_secret_is_struck_out_wherever_the_writes_fall(tmp_path: Path, cut: int, quiet: bool) -> None:
    said = f"token is {SECRET}, twice {SECRET}\n".encode()
    at = len(b"token is ") + cut
    assert logged(tmp_path, [said[:at], said[at:]], [SECRET], quiet=quiet) == b"token is ***, twice ***\n"


@settings(max_examples=50)
@given(
    before=st.integers(0, 200),
    size=st.integers(SHORTEST, 400),
    step=st.integers(1, 600),
    quiet=st.booleans(),
)
def test_a_secret_across_the_pieces_of_a_long_line_is_struck_out(
    tmp_path_factory: pytest.TempPathFactory, before: int, size: int, step: int, quiet: bool
) -> None:
    secret = hashlib.sha256(str(size).encode()).hexdigest() * 8
    secret = secret[:size]
    said = b"." * (FRAME_BODY_B - before) + secret.encode() + b"." * 300 + secret.encode()
    pieces = [said[: FRAME_BODY_B - 300], *(said[i : i + step] for i in range(FRAME_BODY_B - 300, len(said), step))]
    text = logged(tmp_path_factory.mktemp("log"), pieces, [secret], quiet=quiet)
    assert text.rstrip(b"\n") == b"." * (FRAME_BODY_B - before) + b"***" + b"." * 300 + b"***"


def test_each_line_of_a_key_is_struck_out(tmp_path: Path) -> None:
    text = logged(tmp_path, [KEY.encode(), b"and MIIEvQIBADANBg alone\n"], [KEY])
    assert text == b"***\n***\n***\n***\nand *** alone\n"


def test_what_is_too_short_to_hide_stays_and_the_longer_of_two_goes_first(tmp_path: Path) -> None:
    text = logged(tmp_path, [b"yes abcdef abcdefgh\n"], ["yes", "abcdef", "abcdefgh"])
    assert text == b"yes *** ***\n"


def test_a_prompt_is_shown_though_its_end_could_become_a_secret(tmp_path: Path) -> None:
    assert logged(tmp_path, [b"user? h", b"ello\n"], [SECRET], quiet=True) == b"user? hello\n"


def holding(folder: Path) -> list[Path]:
    """The files that hold the secret."""
    return [file for file in folder.rglob("*") if file.is_file() and SECRET.encode() in file.read_bytes()]


async def test_the_log_has_stars_and_the_disk_nothing_once_it_runs(
    server: Server, home: Path, order, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spool_module, "_QUIET_S", 0.05)
    go, seen = tmp_path / "go", tmp_path / "seen"
    script = f"""
echo "whole $HF_TOKEN"; printf "half ${{HF_TOKEN%canary}}"; sleep 0.3; echo canary >&2; echo canary
env | grep -c "$HF_TOKEN" > {seen}
while [ ! -e {go} ]; do sleep 0.02; done
"""
    server.want(order(script, setup='echo "setup $HF_TOKEN"', secrets={"HF_TOKEN": SECRET}))
    async with agent_in_process(server, home):
        await until(lambda: seen.exists() and seen.read_text().strip() == "1")
        server.want(order(script, setup='echo "setup $HF_TOKEN"', token=""))  # as a server does once it runs
        await until(lambda: server.reports["task_1"].state == TaskState.RUNNING)
        assert holding(home) == []
        go.touch()
        await until(lambda: is_final(server, "task_1"))
    assert server.reports["task_1"].state == TaskState.SUCCEEDED
    text = server.text("task_1")
    assert SECRET not in text
    assert "whole ***" in text
    assert "setup ***" in server.text("task_1", "nexus")
    assert "half ***" in text


def test_the_journal_remembers_no_secret(tmp_path: Path, order) -> None:
    home = Home(tmp_path)
    journal = FileJournal(home)
    journal.save(LocalTask(order=order("true", secrets={"HF_TOKEN": SECRET})))
    (record,) = tmp_path.rglob("task.json")
    assert SECRET.encode() not in record.read_bytes()
    assert b"run-token" not in record.read_bytes()
    (again,) = journal.load()
    assert again.order.secrets == {}


def test_what_a_setup_made_with_secrets_is_its_projects_alone(order) -> None:
    mine: TaskOrder = order("true", secrets={"PIP_TOKEN": SECRET})
    plain: TaskOrder = order("true")
    assert environment_hash("pip install x", {}, sharers(plain)) == environment_hash("pip install x", {})
    assert environment_hash("pip install x", {}, sharers(mine)) != environment_hash("pip install x", {})
    assert SECRET in secret_values(mine)
