"""`nexus.log` and its siblings, in real processes."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import textwrap
from collections import defaultdict
from pathlib import Path

import pytest

from nexus.kernel.errors import LimitError, UsageError
from nexus.track.frames import Block, Params, scan
from nexus.track.sdk import Recorder

SRC = Path(__file__).parents[2] / "src"


def run(spool: Path | None, code: str, *, ok: bool = True) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(SRC)}
    environment.pop("NEXUS_SPOOL", None)
    if spool is not None:
        spool.mkdir(exist_ok=True)
        environment["NEXUS_SPOOL"] = str(spool)
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert not ok or done.returncode == 0, done.stderr
    return done


def read(spool: Path) -> dict[str, list[tuple[int, float]]]:
    """Every point of every stream, by key."""
    found: defaultdict[str, list[tuple[int, float]]] = defaultdict(list)
    for path in sorted(spool.glob("m-*.bin")):
        data = path.read_bytes()
        result = scan(data)
        assert (result.consumed, result.dropped) == (len(data), 0)
        for frame in result.frames:
            if isinstance(frame, Block):
                for key, column in zip(frame.keys, frame.columns, strict=True):
                    found[key] += zip(frame.steps, column, strict=True)
    return found


def test_a_script_logs_and_ends(tmp_path: Path) -> None:
    run(
        tmp_path,
        """
        import nexus
        nexus.param({"lr": 0.1, "bad": float("nan")})
        nexus.param("layers", 4)
        for i in range(1000):
            nexus.log({"loss": 1 / (i + 1), "i": i})
        nexus.log({"late": True}, step=5000)
        nexus.log({"late": float("nan")})
        """,
    )
    found = read(tmp_path)
    assert found["loss"] == [(i, 1 / (i + 1)) for i in range(1000)]
    assert found["i"] == [(i, float(i)) for i in range(1000)]
    assert found["late"][0] == (5000, 1.0)
    assert found["late"][1][0] == 5001
    assert math.isnan(found["late"][1][1])
    (path,) = tmp_path.glob("m-*.bin")
    params = [json.loads(frame.json) for frame in scan(path.read_bytes()).frames if isinstance(frame, Params)]
    assert params == [{"lr": 0.1}, {"bad": "nan"}, {"layers": 4}]


def test_without_a_spool_nothing_is_kept_and_mistakes_are_still_told(tmp_path: Path) -> None:
    done = run(
        None,
        """
        import nexus
        nexus.log({"loss": 1.0}); nexus.param("lr", 1); nexus.finish()
        nexus.log({"loss": "high"})
        """,
        ok=False,
    )
    assert done.returncode == 1
    assert "loss is 'high', not a number" in done.stderr


def test_threads_and_forks_and_workers_write_what_they_said(tmp_path: Path) -> None:
    run(
        tmp_path,
        """
        import multiprocessing, os, threading, warnings
        warnings.simplefilter("ignore")
        import nexus

        def work(name, count):
            for i in range(count):
                nexus.log({name: float(i)}, step=i)

        threads = [threading.Thread(target=work, args=(f"thread{t}", 5000)) for t in range(4)]
        [t.start() for t in threads]
        nexus.log({"parent": 1.0})
        pid = os.fork()
        if pid == 0:
            work("child", 100)
            nexus.finish()
            os._exit(0)
        assert os.waitpid(pid, 0)[1] == 0
        workers = [multiprocessing.get_context(m).Process(target=work, args=(m, 50)) for m in ("fork",)]
        [w.start() for w in workers]; [w.join() for w in workers]
        assert [w.exitcode for w in workers] == [0]
        [t.join() for t in threads]
        """,
    )
    found = read(tmp_path)
    for name, count in [("thread0", 5000), ("thread3", 5000), ("child", 100), ("fork", 50)]:
        assert sorted(found[name]) == [(i, float(i)) for i in range(count)], name
    assert [value for _, value in found["parent"]] == [1.0], "a child does not write what its parent queued"
    assert len(list(tmp_path.glob("m-*.bin"))) == 3


def test_numbers_come_from_whatever_float_takes(tmp_path: Path) -> None:
    class Scalar:
        def __float__(self) -> float:
            return 2.5

    recorder = Recorder(str(tmp_path))
    recorder.log({"a": Scalar(), "b": 3, "c": True, "d": math.inf}, None)
    recorder.flush()
    assert {key: value for key, ((_, value),) in read(tmp_path).items()} == {
        "a": 2.5,
        "b": 3.0,
        "c": 1.0,
        "d": math.inf,
    }


def test_scalars_of_numpy_are_numbers_everywhere(tmp_path: Path) -> None:
    numpy = pytest.importorskip("numpy")
    recorder = Recorder(str(tmp_path))
    recorder.log({"a": numpy.float32(1.5), "b": numpy.array(2), "c": numpy.array([[3]])}, numpy.int64(7))
    recorder.flush()
    assert read(tmp_path) == {"a": [(7, 1.5)], "b": [(7, 2.0)], "c": [(7, 3.0)]}
    recorder.param({"sizes": [numpy.int64(3), 4], "deep": {"x": numpy.float32("nan")}, "at": Path("/data")})
    said = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    for text in (b'{"sizes": [3, 4]}', b'{"deep": {"x": "nan"}}', b'{"at": "/data"}'):
        assert text in said


@pytest.mark.torch
def test_a_loss_within_its_gradient_is_a_number(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    recorder = Recorder(str(tmp_path))
    loss = (torch.ones(1, requires_grad=True) * 2).sum()
    recorder.log({"loss": loss, "one": torch.tensor([3])}, None)  # without a warning: here it would fail
    recorder.flush()
    assert read(tmp_path) == {"loss": [(0, 2.0)], "one": [(0, 3.0)]}
    with pytest.raises(UsageError, match="one number"):
        recorder.log({"loss": torch.ones(3)}, None)


def test_a_hundred_thousand_names_are_kept(tmp_path: Path) -> None:
    recorder = Recorder(str(tmp_path))
    recorder.log({f"key/{number}": float(number) for number in range(100_000)}, None)
    recorder.flush()
    found = read(tmp_path)
    assert len(found) == 100_000
    assert found["key/99999"] == [(0, 99999.0)]


@pytest.mark.parametrize("value", ["0.3", None, [1.0], {}, 1j, b"1", object(), 10**400])
def test_what_is_no_number_is_refused_at_once(value: object) -> None:
    with pytest.raises(UsageError, match=r"^loss is .*number"):
        Recorder(None).log({"loss": value}, None)


@pytest.mark.parametrize("value", [{b"k": 1}, [{object(): 1}], ["x" * 300_000]])
def test_what_is_no_plain_data_is_refused_as_a_parameter(value: object, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="the parameter lr"):
        Recorder(str(tmp_path)).param({"lr": value})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("key", ["", "a\0b", "k" * 600, 3, "\ud800"])
def test_what_is_no_name_is_refused_at_once(key: object) -> None:
    with pytest.raises(UsageError):
        Recorder(None).log({key: 1.0}, None)  # type: ignore[dict-item]


@pytest.mark.parametrize("values", [0.3, [0.3], ["loss"], None])
def test_numbers_without_names_are_refused_at_once(values: object) -> None:
    with pytest.raises(UsageError, match="no dictionary of numbers"):
        Recorder(None).log(values, None)  # type: ignore[arg-type]


@pytest.mark.parametrize("step", [1.5, "3", 2**64])
def test_a_step_is_a_whole_number(step: object) -> None:
    with pytest.raises(UsageError):
        Recorder(None).log({"loss": 1.0}, step)  # type: ignore[arg-type]


def test_a_full_disk_stops_no_job_and_loses_nothing_when_it_passes(tmp_path: Path) -> None:
    done = run(
        tmp_path / "spool",
        f"""
        import os, resource, signal, time
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        import nexus
        nexus.log({{"a": 1.0}}); assert nexus.finish()
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (300, hard))
        for i in range(1000):
            nexus.log({{"b": float(i)}})
        assert not nexus.finish()
        (name,) = os.listdir("{tmp_path}/spool")
        assert os.path.getsize("{tmp_path}/spool/" + name) < 100, "no half frame stays"
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert nexus.finish()
        """,
    )
    assert "cannot write metrics" in done.stderr
    assert "written again" in done.stderr
    found = read(tmp_path / "spool")
    assert found["a"] == [(0, 1.0)]
    assert [value for _, value in found["b"]] == [float(i) for i in range(1000)]


def test_artifacts_are_copied_and_asked_for(tmp_path: Path) -> None:
    model, folder = tmp_path / "model.bin", tmp_path / "plots"
    model.write_bytes(b"weights")
    (folder / "deep").mkdir(parents=True)
    (folder / "deep" / "a.png").write_bytes(b"png")
    spool = tmp_path / "spool"
    spool.mkdir()
    recorder = Recorder(str(spool))
    recorder.artifact("digits", model, "model", {"acc": 0.9}, copy=True)
    recorder.artifact("plots", folder, "artifact", {}, copy=True)
    recorder.artifact("kept", model, "checkpoint", {}, copy=False)
    model.write_bytes(b"changed")
    requests = [json.loads(path.read_text()) for path in sorted(spool.glob("artifact-*.json"))]
    assert [(one["name"], one["kind"], one["copied"]) for one in requests] == [
        ("digits", "model", True),
        ("plots", "artifact", True),
        ("kept", "checkpoint", False),
    ]
    assert Path(requests[0]["path"]).read_bytes() == b"weights"
    assert requests[0]["meta"] == {"acc": "0.9"}
    assert (Path(requests[1]["path"]) / "deep" / "a.png").read_bytes() == b"png"
    assert requests[2]["path"] == str(model)
    assert not list(spool.glob("*.tmp"))


def test_a_wrong_artifact_is_refused(tmp_path: Path) -> None:
    recorder = Recorder(str(tmp_path))
    (tmp_path / "a").write_bytes(b"x")
    for name, path, kind in [
        ("a", "nothing-here", "model"),
        ("../a", "a", "model"),
        ("a", "a", "zip"),
        ("", "a", "model"),
    ]:
        with pytest.raises(UsageError):
            recorder.artifact(name, tmp_path / path, kind, {}, copy=True)
    with pytest.raises(LimitError):
        Recorder(str(tmp_path / "gone")).artifact("a", tmp_path / "a", "model", {}, copy=True)


def test_it_is_light() -> None:
    done = run(
        None,
        """
        import sys, time
        begin = time.process_time()
        import nexus
        nexus.log
        spent = time.process_time() - begin
        heavy = {"json", "asyncio", "dataclasses", "pathlib", "shutil", "httpx", "msgspec", "inspect", "logging"}
        print(spent, *sorted(heavy & set(sys.modules)))
        """,
    )
    spent, *heavy = done.stdout.split()
    assert heavy == []
    assert float(spent) < 0.06, "15 ms on a quiet machine; the list above is the real guard"
