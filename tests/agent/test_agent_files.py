"""What a task gets and leaves: workspace, inputs, environment, outputs, artifacts, metrics, checkpoints."""

from __future__ import annotations

import hashlib
import io
import os
import zipfile
from pathlib import Path

import pytest

from nexus.infra.package import pack, unpack
from nexus.launch.model import Cause, TaskState
from tests.agent.conftest import agent_in_process
from tests.agent.server import Server, is_final, until

pytestmark = pytest.mark.anyio


def packed(server: Server, folder: Path, files: dict[str, str]) -> str:
    for name, content in files.items():
        path = folder / "content" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    pack(folder / "content", folder / "package")
    return server.put((folder / "package").read_bytes())


async def test_workspace_inputs_and_outputs(server: Server, home: Path, order, tmp_path: Path) -> None:
    workspace = packed(
        server, tmp_path, {"src/main.sh": "mkdir out; cat $NEXUS_INPUT_MY_DATA > out/copy; echo x > one.txt"}
    )
    data = server.put(b"the data")
    server.want(
        order(
            "sh src/main.sh; echo kept > $NEXUS_OUTPUTS/more",
            workspace=workspace,
            inputs={"my-data": data},
            outputs=("./out/", "one.txt", "missing", "../../node.json"),
        )
    )
    async with agent_in_process(server, home):
        await until(lambda: is_final(server, "task_1"))
    assert server.reports["task_1"].state == TaskState.SUCCEEDED
    kept = {report.name: report for report in server.artifacts["task_1"]}
    assert set(kept) == {"out", "one.txt", "outputs"}
    assert kept["out"].packed
    assert not kept["one.txt"].packed
    assert server.blobs[kept["one.txt"].digest] == b"x\n"
    (tmp_path / "out.package").write_bytes(server.blobs[kept["out"].digest])
    unpack(tmp_path / "out.package", tmp_path / "unpacked")
    assert (tmp_path / "unpacked" / "copy").read_text() == "the data"
    assert "the output missing is not there" in server.text("task_1", "nexus")
    assert "the output ../../node.json is not there" in server.text("task_1", "nexus")


async def test_a_workspace_that_leaves_its_folder_is_refused(server: Server, home: Path, order, tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("../../../evil", "evil")
        archive.comment = b"nexus-package-1"
    server.want(order("echo never", workspace=server.put(buffer.getvalue())))
    async with agent_in_process(server, home):
        await until(lambda: is_final(server, "task_1"))
    report = server.reports["task_1"]
    assert (report.state, report.cause) == (TaskState.FAILED, Cause.SETUP)
    assert "evil" in report.detail
    assert not _find(tmp_path, "evil")
    assert server.text("task_1") == ""


async def test_a_workspace_that_is_gone_says_what_to_do(server: Server, home: Path, order) -> None:
    server.want(order("echo never", workspace=hashlib.sha256(b"gone").hexdigest()))
    async with agent_in_process(server, home):
        await until(lambda: is_final(server, "task_1"))
    report = server.reports["task_1"]
    assert (report.state, report.cause) == (TaskState.FAILED, Cause.SETUP)
    assert "any more" in report.detail
    assert "Launch the job again" in report.detail


@pytest.mark.parametrize("where", ["workspace", "inputs"])
async def test_what_is_no_digest_is_never_asked_for(server: Server, home: Path, order, where: str) -> None:
    """It would become part of a path: of a request with the node's token, and of a file."""
    bad = "/../../../agent/sync?"
    server.want(order("echo never", **{where: bad if where == "workspace" else {"data": bad}}))
    async with agent_in_process(server, home):
        await until(lambda: is_final(server, "task_1"))
    report = server.reports["task_1"]
    assert (report.state, report.cause) == (TaskState.FAILED, Cause.SETUP)
    assert "digest" in report.detail


async def test_a_workspace_that_arrives_damaged_is_refused(server: Server, home: Path, order) -> None:
    digest = hashlib.sha256(b"right").hexdigest()
    server.blobs[digest] = b"wrong"
    server.want(order("echo never", workspace=digest))
    async with agent_in_process(server, home):
        await until(lambda: is_final(server, "task_1"))
    assert server.reports["task_1"].cause == Cause.SETUP
    assert "damaged" in server.reports["task_1"].detail


async def test_files_are_asked_for_until_they_come(server: Server, home: Path, order, tmp_path: Path) -> None:
    """A blob store that fails for a while, before the task and after it, costs neither workspace nor output."""
    workspace = packed(server, tmp_path, {"data": "the data"})
    server.blob_failures = 3
    server.want(order(f"cat data; touch out {tmp_path}/ran", workspace=workspace, outputs=("out",)))
    async with agent_in_process(server, home):
        await until((tmp_path / "ran").exists)
        server.blob_failures = 3
        await until(lambda: is_final(server, "task_1"))
    assert server.reports["task_1"].state == TaskState.SUCCEEDED
    assert server.text("task_1") == "the data"
    assert [report.name for report in server.artifacts["task_1"]] == ["out"]


async def test_the_sdk_logs_and_keeps_artifacts(server: Server, home: Path, order) -> None:
    script = """python - <<'END'
import nexus, time
nexus.log({"loss": 0.5})
open("model.bin", "wb").write(b"weights")
nexus.artifact("digits", "model.bin", kind="model", meta={"accuracy": 0.9})
time.sleep(1.0)
nexus.log({"loss": 0.25})
END
exit 3
"""
    server.want(order(script))
    async with agent_in_process(server, home):
        await until(lambda: server.artifacts["task_1"])
        assert not is_final(server, "task_1")
        await until(lambda: is_final(server, "task_1"))
        await until(lambda: not list((home / "tasks").iterdir()))
    [report] = server.artifacts["task_1"]
    assert (report.name, report.kind, report.meta) == ("digits", "model", {"accuracy": "0.9"})
    assert server.blobs[report.digest] == b"weights"
    [stream] = [bytes(data) for (task, _), data in server.metrics.items() if task == "task_1"]
    assert stream[:2] == b"NX"
    assert stream.count(b"loss") == 2


async def test_checkpoints_survive_an_attempt(server: Server, home: Path, order) -> None:
    server.want(order("echo state > $NEXUS_CHECKPOINTS/step; exit 1", "task_1"))
    async with agent_in_process(server, home):
        await until(lambda: is_final(server, "task_1"))
        server.want(order("cat $NEXUS_CHECKPOINTS/step", "task_2", attempt=2, epoch=2))
        await until(lambda: is_final(server, "task_2"))
    assert server.text("task_2") == "state"


async def test_a_setup_is_done_once_and_heard_as_it_happens(server: Server, home: Path, order, tmp_path: Path) -> None:
    workspace = packed(server, tmp_path, {"requirements.txt": "# nothing"})
    setup = f"echo setting up; echo once >> {tmp_path}/setups; sleep 0.2; touch $VIRTUAL_ENV/made; command -v pip"
    values = {"setup": setup, "setup_files": ("requirements.txt",), "workspace": workspace}
    script = "command -v python; ls $VIRTUAL_ENV/made; python -c 'import nexus; print(nexus.__version__)'"
    server.want(order(script, "task_1", **values), order(script, "task_2", **values))
    async with agent_in_process(server, home):
        await until(lambda: "setting up" in server.text("task_1", "nexus") + server.text("task_2", "nexus"), 30)
        assert not is_final(server, "task_1")
        await until(lambda: is_final(server, "task_1") and is_final(server, "task_2"), 30)
        server.want(order(script, "task_3", **values))
        await until(lambda: is_final(server, "task_3"), 30)
    assert (tmp_path / "setups").read_text() == "once\n"
    [environment] = [marker.parent for marker in _find(home / "environments", "ok")]
    for task in ("task_1", "task_2", "task_3"):
        python, made, version = server.text(task).splitlines()
        assert python == str(environment / "bin" / "python")
        assert made == str(environment / "made")
        assert version == "0.1.0"


async def test_a_setup_that_fails_says_why(server: Server, home: Path, order) -> None:
    server.want(order("echo never", setup="echo trying\nls /no/such/folder\necho not reached"))
    async with agent_in_process(server, home):
        await until(lambda: is_final(server, "task_1"), 30)
    report = server.reports["task_1"]
    assert (report.state, report.cause) == (TaskState.FAILED, Cause.SETUP)
    assert "exited with code 2" in report.detail
    assert "(trying / ls: " in report.detail  # its last words, on one line
    assert "/no/such/folder" in report.detail
    assert "\n" not in report.detail
    assert "not reached" not in server.text("task_1", "nexus")
    assert not _find(home / "environments", "ok")


async def test_a_setup_that_hangs_is_ended(server: Server, home: Path, order) -> None:
    server.want(order("echo never", setup="echo hanging; sleep 300"))
    async with agent_in_process(server, home, setup_timeout_s=0.5):
        await until(lambda: is_final(server, "task_1"), 30)
    assert "longer than 0.5 s" in server.reports["task_1"].detail


async def test_a_setup_can_be_stopped(server: Server, home: Path, order, tmp_path: Path) -> None:
    server.want(order("echo never", setup=f"echo $$ > {tmp_path}/pid; echo hanging; sleep 300"))
    async with agent_in_process(server, home):
        await until(lambda: "hanging" in server.text("task_1", "nexus"), 30)
        server.change("task_1", wanted="stop")
        await until(lambda: is_final(server, "task_1"))
        assert server.reports["task_1"].state == TaskState.STOPPED
        await until(lambda: not Path(f"/proc/{(tmp_path / 'pid').read_text().strip()}").exists())


async def test_pip_of_an_environment_is_uv(server: Server, home: Path, order, tmp_path: Path) -> None:
    """A wheel of our own from a find-links folder, by both of pip's names; nothing from any index."""
    wheel = tmp_path / "links" / "nexus_probe_wheel-1.0-py3-none-any.whl"
    _make_wheel(wheel)
    env = {"UV_FIND_LINKS": str(wheel.parent), "UV_NO_INDEX": "1", "UV_NO_CONFIG": "1"}
    setup = "pip install nexus-probe-wheel\npython -m pip install --quiet 'nexus-probe-wheel==1.0'\npip list"
    server.want(order("python -c 'import nexus_probe_wheel as w; print(w.ANSWER)'", setup=setup, env=env))
    async with agent_in_process(server, home):
        await until(lambda: is_final(server, "task_1"), 30)
    assert server.text("task_1") == "42", server.text("task_1", "nexus")


def _find(folder: Path, name: str) -> list[Path]:
    """In a tree from which an agent removes folders meanwhile."""
    return [Path(here) / name for here, folders, files in os.walk(folder) if name in {*folders, *files}]


def _make_wheel(path: Path) -> None:
    path.parent.mkdir()
    info = "nexus_probe_wheel-1.0.dist-info"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("nexus_probe_wheel.py", "ANSWER = 42\n")
        archive.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: nexus-probe-wheel\nVersion: 1.0\n")
        archive.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr(f"{info}/RECORD", "")
