"""The job section and the engine table."""

from __future__ import annotations

import json
import shlex
import sys
from dataclasses import replace

import pytest

from nexus.deploy.core.engines import ENGINES
from nexus.deploy.core.jobsection import deployment
from nexus.deploy.core.plans import revision, same
from nexus.deploy.faces.words import curl, try_it
from nexus.deploy.model import Deployment, EndpointState, EndpointView
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


def test_an_example_travels_as_json_and_stays_when_only_the_model_changes():
    spec, plan = read(PREDICTOR + "  example: {pixels: [0, 1.50, on], word: é}\n")
    wanted = deployment(spec, plan)
    assert json.loads(wanted.example) == {"pixels": [0, 1.5, "on"], "word": "é"}
    first = revision(wanted, None, plan, "model://digits@2", 0.0)
    bare = revision(Deployment(name="digits"), first, plan, "model://digits@3", 1.0)
    assert (first.example, bare.example) == (wanted.example, wanted.example)
    assert not same(first, replace(first, example=""))
    assert deployment(*read(PREDICTOR)).example == ""


def test_the_lines_to_try_are_whole():
    view = EndpointView(
        name="digits",
        project="p",
        user="ada",
        state=EndpointState.READY,
        reason="",
        fault="",
        url="http://here:1/e/digits",
        engine="predictor",
        model="model://digits@2",
        replicas=1,
        ready=1,
        revision=1,
        created=0,
        updated=0,
        openai=False,
        example='{"text": "it\'s"}',
    )
    words = shlex.split(curl(view))
    assert words[:2] == ["curl", "http://here:1/e/digits/predict"]
    assert json.loads(words[words.index("-d") + 1]) == {"text": "it's"}
    assert try_it(view) == "nexus endpoints call digits"
    assert try_it(replace(view, openai=True)) == "nexus chat digits"


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
