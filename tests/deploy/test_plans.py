"""The job section and the engine table."""

from __future__ import annotations

import sys

import pytest

from nexus.deploy.core.engines import ENGINES
from nexus.deploy.core.jobsection import deployment
from nexus.deploy.serve import SERVERS, Serving, serving
from nexus.kernel.errors import FileError, UsageError
from nexus.launch.core.compile import compile_job
from nexus.launch.core.jobfile.reading import read_jobs
from nexus.launch.model import OnExit, Port

PREDICTOR = "name: digits\ndeploy:\n  model: model://digits@2\n  predictor: predictor:Digits\n  replicas: 3\n"


def read(text: str):
    [spec] = read_jobs(text, file="job.yaml")
    return spec, compile_job(spec)


def test_a_predictor_becomes_replicas_that_are_restarted():
    spec, plan = read(PREDICTOR)
    [role] = plan.roles
    assert (plan.kind, role.name, role.count, role.on_exit) == ("deploy", "replica", 3, OnExit.RESTART)
    assert role.argv[:4] == ("python", "-m", "nexus.deploy.serve", "predictor")
    assert role.ports == (Port("http"),)
    assert role.health
    assert (role.health.path, role.health.port) == ("/ready", "http")
    assert plan.inputs == {"model": "model://digits@2"}
    wanted = deployment(spec, plan)
    assert (wanted.name, wanted.replicas, wanted.engine, wanted.pure) == ("digits", 3, "predictor", True)


def test_the_command_of_a_replica_is_one_that_serve_understands():
    _, plan = read(PREDICTOR)
    name, told = serving(plan.roles[0].argv[3:], {"NEXUS_PORT_HTTP": "9", "NEXUS_INPUT_MODEL": "/m"})
    assert (name, told) == ("predictor", Serving(port=9, model="/m", predictor="predictor:Digits"))
    _, plan = read("name: chat\ndeploy: {engine: llama, model: 'bundled://smollm2', context: 2048, threads: 1}\n")
    name, told = serving(plan.roles[0].argv[3:], {"PORT": "9"})
    assert (name, told) == ("llama", Serving(port=9, model="bundled://smollm2", alias="chat", context=2048, threads=1))
    with pytest.raises(UsageError, match="no port"):
        serving(plan.roles[0].argv[3:], {})


def test_a_command_of_ones_own():
    _, plan = read("run: ./serve $NEXUS_PORT_HTTP\nhealth: /up\ndeploy: {engine: command}\n")
    [role] = plan.roles
    assert role.health
    assert (role.script, role.argv, role.health.path) == ("./serve $NEXUS_PORT_HTTP", (), "/up")


@pytest.mark.parametrize(
    ("text", "field", "word"),
    [
        ("deploy: {engine: predictor}\n", "deploy.predictor", "needs a class"),
        ("deploy: {engine: llama}\n", "deploy.model", "needs a model"),
        ("deploy: {engine: command}\n", "run", "nothing to run"),
        ("run: x\ndeploy: {predictor: 'a:B'}\n", "run", "cannot stand together"),
        ("deploy: {predictor: 'a:B', replicas: 0}\n", "deploy.replicas", ""),
        ("deploy: {predictr: 'a:B'}\n", "deploy.predictr", ""),
    ],
)
def test_what_is_wrong_is_pointed_at(text: str, field: str, word: str):
    with pytest.raises(FileError) as caught:
        read(text)
    assert caught.value.details["field"] == field
    assert caught.value.details["line"]
    assert word in caught.value.message


def test_another_kind_is_not_deployed():
    spec, plan = read("run: echo hello\n")
    with pytest.raises(UsageError, match="kind is command"):
        deployment(spec, plan)


@pytest.mark.parametrize("name", list(ENGINES))
def test_every_engine_of_the_table_can_be_loaded(name: str):
    assert ENGINES[name].says
    assert (name in SERVERS) == bool(ENGINES[name].serve)
    if ENGINES[name].serve:
        assert callable(SERVERS.get(name))


def test_naming_an_engine_loads_no_other():
    import subprocess

    heavy = "('uvicorn', 'xllamacpp', 'nexus.deploy.adapters.engines.llama')"
    code = f"import sys, nexus.deploy.serve; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
