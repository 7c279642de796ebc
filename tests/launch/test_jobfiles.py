"""Job files on disk, the folder that goes with them, and what is shown before a launch."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from nexus.app.commands.launch import exit_code
from nexus.infra.http_client import HttpClient
from nexus.infra.package import unpack
from nexus.infra.shell import Shell
from nexus.kernel.errors import FileError, NexusError, NotFoundError, UsageError
from nexus.launch.core.compile import compile_job
from nexus.launch.faces.commands.job import command
from nexus.launch.faces.jobfiles import as_overrides, pack_workspace, read_argv, read_file
from nexus.launch.faces.planview import plan_lines
from nexus.launch.model import Assignment, Capacity, Cause, Gpu, Node, Placement, Rejection, Run, RunState, Task

EXAMPLES = sorted((Path(__file__).parent.parent.parent / "examples").glob("*/job.yaml"))


def nowhere() -> HttpClient:
    raise AssertionError("this command needs no server")


def job(*words: str) -> tuple[int, str, str]:
    done = CliRunner().invoke(command, list(words), obj=Shell(connect=nowhere))
    if done.exception is not None and not isinstance(done.exception, NexusError | SystemExit):
        raise done.exception
    error = done.exception
    return (error.exit_code if isinstance(error, NexusError) else done.exit_code), done.stdout, done.stderr


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.parent.name)
def test_every_example_can_run(path: Path, tmp_path: Path) -> None:
    jobs = read_file(path)
    for spec in jobs.specs:
        package = pack_workspace(spec, jobs.folder, tmp_path / "package")
        assert (package is None) == (spec.workspace is None)
        files = package.files if package is not None else ()
        plan = compile_job(spec, files=files)
        assert plan.roles
        assert all(set(role.setup_files) <= set(files) for role in plan.roles)
        assert not spec.warnings


def test_a_folder_stands_for_its_job_file_and_names_it(tmp_path: Path) -> None:
    folder = tmp_path / "My Project"
    folder.mkdir()
    (folder / "job.yaml").write_bytes("\ufeffrun: echo\n".encode())
    (folder / "other.yaml").write_text("run: echo\n")
    assert read_file(folder).specs[0].name == "my-project"
    assert read_file(folder / "other.yaml").specs[0].name == "other"
    assert read_file(folder).folder == folder


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="has no job"):
        read_file(tmp_path)
    with pytest.raises(NotFoundError, match="there is no file"):
        read_file(tmp_path / "job.yaml")
    (tmp_path / "train.py").write_text("print(1)")
    with pytest.raises(UsageError) as caught:
        read_file(tmp_path / "train.py")
    assert caught.value.hint == f"Run it with: nexus launch -- python {tmp_path / 'train.py'}"
    (tmp_path / "job.yaml").write_bytes(b"run: \xff\xfe\n")
    with pytest.raises(FileError, match="not UTF-8"):
        read_file(tmp_path)
    (tmp_path / "job.yaml").write_text("run: x\n#" + "x" * 1_000_001)
    with pytest.raises(FileError, match="at most 1000000 bytes"):
        read_file(tmp_path)


def test_options_become_overrides(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FROM_HERE", 'a "quoted" = \n value')
    spec = read_argv(["echo"], as_overrides("given", ["A=x: [y", "B=", "FROM_HERE", "N=007"])).specs[0]
    assert spec.name == "given"
    assert spec.env == {"A": "x: [y", "B": "", "FROM_HERE": 'a "quoted" = \n value', "N": "007"}
    with pytest.raises(UsageError, match="MISSING_HERE is not set here"):
        as_overrides(None, ["MISSING_HERE"])


def test_the_workspace_of_a_job_is_beside_its_file(tmp_path: Path) -> None:
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "a.py").write_text("1")
    (tmp_path / "job.yaml").write_text("run: x\nworkspace: code\n---\nname: none\nrun: x\nworkspace: null\n")
    jobs = read_file(tmp_path)
    package = pack_workspace(jobs.specs[0], jobs.folder, tmp_path / "package")
    assert package is not None
    unpack(tmp_path / "package", tmp_path / "back")
    assert [path.name for path in (tmp_path / "back").iterdir()] == ["a.py"]
    assert pack_workspace(jobs.specs[1], jobs.folder, tmp_path / "none") is None
    with pytest.raises(NotFoundError, match="there is no folder"):
        pack_workspace(jobs.specs[0], tmp_path / "code", tmp_path / "none")


# --------------------------------------------------------------------------- what is shown


def node(name: str) -> Node:
    gpus = (Gpu("A100"), Gpu("A100"))
    return Node(id=f"node_{name}", project="p", created=0.0, name=name, capacity=Capacity(cpu=4, gpus=gpus))


def test_the_plan_as_people_see_it() -> None:
    spec = read_argv(["python", "train.py"], ["nodes=2", "resources.gpu='A100:2'", "resources.memory=16GB"]).specs[0]
    nodes = {f"node_{name}": node(name) for name in ("a", "b", "c", "d")}
    placement = Placement(
        assignments=(Assignment("main", 0, "node_a", (0, 1), 1.5), Assignment("main", 1, "node_b", (0, 1), 1.5)),
        rejections=(
            Rejection("node_c", "main", "over max_price"),
            Rejection("node_d", "main", "over max_price"),
            Rejection("node_x", "main", "too little memory"),
        ),
    )
    assert plan_lines("train", compile_job(spec), None, placement, nodes) == [
        "train · command · 2 x main (2 GPU A100, 16 GB memory)",
        "  CHOSEN    a + b   4x A100   3.00/h",
        "  rejected  3 machines",
        "            c, d: over max_price",
        "            node_x: too little memory",
    ]
    nothing = Placement(reason="no node fits")
    assert plan_lines("x", compile_job(spec), None, nothing, {})[1:] == ["  NOWHERE   no node fits"]


@pytest.mark.parametrize(
    ("state", "cause", "code", "signal", "expected"),
    [
        (RunState.SUCCEEDED, Cause.DONE, 0, None, 0),
        (RunState.FAILED, Cause.EXIT, 42, None, 42),
        (RunState.FAILED, Cause.SIGNAL, None, 9, 137),
        (RunState.FAILED, Cause.NODE_LOST, None, None, 1),
        (RunState.FAILED, Cause.EXIT, 300, None, 1),
        (RunState.STOPPED, Cause.STOPPED, None, 15, 130),
    ],
)
def test_the_exit_code_of_a_run(
    state: RunState, cause: Cause, code: int | None, signal: int | None, expected: int
) -> None:
    plan = compile_job(read_argv(["x"]).specs[0])
    run = Run(
        id="r", project="p", created=0.0, name="n", kind="command", plan=plan, state=state, cause=cause, exit_code=code
    )
    task = Task(
        id="t", project="p", created=0.0, run="r", role="main", index=0, attempt=0, node="n", epoch=1, signal=signal
    )
    assert exit_code(run, [task]) == expected


def test_nexus_job(tmp_path: Path) -> None:
    good, bad = tmp_path / "job.yaml", tmp_path / "bad.yaml"
    good.write_text("job: echo hi\njob_name: hello\ncomputing: {minimum_num_gpus: 1}\nrun_api_key: s3cret\n")
    bad.write_text("runn: x\nnodes: two\n")
    code, out, err = job("validate", str(good))
    assert (code, out) == (0, "hello: a command job, valid\n")
    assert "run_api_key" in err
    assert "s3cret" not in err
    code, out, _ = job("convert", str(good))
    assert code == 0
    assert out.startswith("name: hello\nworkspace: null\n")
    assert "s3cret" not in out
    code, _, err = job("validate", str(bad))
    assert code == 2
    assert f"also:  {bad}:2:8: `nodes` needs a whole number, not 'two'" in err
    code, out, _ = job("schema")
    assert json.loads(out)["title"] == "Nexus job file"


def test_a_home_folder_is_never_sent_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    [spec] = read_argv(["echo", "hi"]).specs
    assert spec.workspace is None
    assert "is not sent" in spec.warnings[-1]
    (tmp_path / "project").mkdir()
    monkeypatch.chdir(tmp_path / "project")
    [spec] = read_argv(["echo", "hi"]).specs
    assert (spec.workspace, spec.warnings) == (".", ())


def test_a_converted_file_can_be_json_too(tmp_path: Path) -> None:
    file = tmp_path / "job.yaml"
    file.write_text("name: a\nrun: echo hi\nenv: {RATE: 1.10}\n")
    shell = Shell(connect=lambda: pytest.fail("no server is needed"), json=True)
    done = CliRunner().invoke(command, ["convert", str(file)], obj=shell)
    assert json.loads(done.stdout) == {"name": "a", "run": "echo hi", "env": {"RATE": "1.10"}}
