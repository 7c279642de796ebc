"""What job files mean, and that no text at all can break the reader."""

from __future__ import annotations

from contextlib import suppress

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from nexus.kernel.errors import NexusError
from nexus.kernel.units import Range
from nexus.launch.core.compile import compile_job
from nexus.launch.core.jobfile.argv import command_name, job_from_argv
from nexus.launch.core.jobfile.convert import to_native
from nexus.launch.core.jobfile.dialects import DIALECTS, detect
from nexus.launch.core.jobfile.reading import read_jobs
from nexus.launch.core.jobfile.schema import job_schema
from nexus.launch.core.jobfile.tree import Fields, read_trees, value_of
from nexus.launch.core.jobkind import KINDS
from nexus.launch.core.spec import JobSpec
from nexus.launch.model import GpuNeed, OnExit, Port

FULL = """
name: digits
kind: train
workspace: code
setup: |
  pip install -r requirements.txt
run: |
  python train.py --epochs 5
env: {SEED: 1, RATE: 1.10, ON: on, FLAG: true, CODE: 007, NONE: }
secrets: [HF_TOKEN]
resources:
  gpu: {name: [A100, H100], count: 2, memory: 40GiB..}
  cpu: 4..
  memory: 16GiB..32GiB
  disk: 50GB
  region: eu-*
  spot: never
  max_price: 2.50
  labels: {site: hospital-a, rack: 7}
nodes: 2
network: fast
inputs:  {prior: "artifact://digits/checkpoint", base: "model://smollm2@3"}
outputs: [checkpoints/, model/]
ports:   [{port: 8000, name: http}, 9000]
retry:   {max: 3, on: [node_lost, exit: 75], backoff: 10s..5m}
timeout: 2h
grace: 30
priority: 70
"""


def one(text: str, *overrides: str) -> JobSpec:
    (spec,) = read_jobs(text, overrides=overrides)
    return spec


def test_everything_a_job_says_is_in_its_plan() -> None:
    files = ["requirements.txt", "train.py", "data/requirements.txt"]
    plan = compile_job(one(FULL.replace(", 9000]", "]")), workspace="ab" * 32, workspace_b=7, files=files)
    (role,) = plan.roles
    assert (plan.kind, role.name, role.count, role.gang) == ("train", "worker", 2, True)
    assert (plan.workspace, plan.workspace_b, plan.network, plan.max_price) == ("ab" * 32, 7, "fast", 2.5)
    assert role.script == "python train.py --epochs 5\n"
    assert role.setup_files == ("requirements.txt",)
    assert role.env == {"SEED": "1", "RATE": "1.10", "ON": "on", "FLAG": "true", "CODE": "007", "NONE": ""}
    assert role.needs.gpu == GpuNeed(2, ("A100", "H100"), Range(40 * 1024**3, None))
    assert role.needs.memory_b == Range(16 * 1024**3, 32 * 1024**3)
    assert role.needs.disk_b == Range(50e9, None)
    assert (role.needs.regions, role.needs.spot) == (("eu-*",), "never")
    assert role.needs.labels == {"site": "hospital-a", "rack": "7"}
    assert role.ports == (Port("rendezvous"), Port("http", 8000))
    assert (plan.retry.max, plan.retry.on, plan.retry.backoff_s) == (3, ("node_lost", "exit:75"), Range(10.0, 300.0))
    assert (plan.timeout_s, plan.grace_s, plan.priority) == (7200.0, 30.0, 70)
    assert plan.secrets == ("HF_TOKEN",)
    assert plan.outputs == ("checkpoints/", "model/")
    assert plan.inputs == {"prior": "artifact://digits/checkpoint", "base": "model://smollm2@3"}


@pytest.mark.parametrize(
    ("gpu", "need"),
    [
        ("A100", GpuNeed(1, ("A100",))),
        ("RTX 4090:2", GpuNeed(2, ("RTX 4090",))),
        ("any:4", GpuNeed(4)),
        ("3", GpuNeed(3)),
        ("'3'", GpuNeed(3)),
        ("0", GpuNeed(0)),
        ("{name: [any], count: 2}", GpuNeed(2)),
        ("null", GpuNeed()),
    ],
)
def test_ways_to_write_an_accelerator(gpu: str, need: GpuNeed) -> None:
    (role,) = compile_job(one(f"run: x\nresources: {{gpu: {gpu}}}\n")).roles
    assert role.needs.gpu == need


def test_a_command_line_in_a_file_stays_words_as_written() -> None:
    (role,) = compile_job(one("run: [python, train.py, --rate, 0.10, --flag, true, '']")).roles
    assert role.argv == ("python", "train.py", "--rate", "0.10", "--flag", "true", "")
    assert role.script == ""


def test_words_of_yaml_1_1_are_words() -> None:
    (tree,) = read_trees("{a: on, b: yes, c: 0123, d: 1_000, e: 12:30, f: 0o17, g: 0x1F, h: .5, i: ~}", "x")
    assert value_of(tree) == {
        "a": "on",
        "b": "yes",
        "c": 123,
        "d": "1_000",
        "e": "12:30",
        "f": 15,
        "g": 31,
        "h": 0.5,
        "i": None,
    }


def test_several_documents_are_jobs_in_an_order_that_can_run() -> None:
    text = "name: c\nrun: x\nafter: [a, b]\n---\nname: b\nrun: x\nafter: [a]\n---\nname: a\nrun: x\n---\n"
    assert [spec.name for spec in read_jobs(text)] == ["a", "b", "c"]


def test_anchors_and_merges_are_read() -> None:
    text = "run: x\nenv: &e {A: 1, B: 2}\nroles: []\nresources: {labels: {<<: *e, A: 3}}\n"
    spec = one(text)
    assert spec.resources.labels == {"A": "3", "B": "2"}


def test_roles_take_from_the_job_what_they_do_not_say() -> None:
    spec = one(
        "setup: s\nenv: {A: 1}\nresources: {cpu: 2}\nroles:\n"
        "  - {name: head, run: h, env: {B: 2}, on_exit: any, ports: [{name: rpc}], health: /ok}\n"
        "  - {name: hand, count: 3, run: [w], setup: '', resources: {cpu: 1}, gang: true}\n"
    )
    head, hand = compile_job(spec).roles
    assert (head.script, head.setup, head.env, head.on_exit) == ("h", "s", {"A": "1", "B": "2"}, OnExit.ANY)
    assert (head.ports, head.health is not None and head.health.path) == ((Port("rpc"),), "/ok")
    assert (hand.argv, hand.setup, hand.count, hand.gang) == (("w",), "", 3, True)
    assert (head.needs.cpu.low, hand.needs.cpu.low) == (2, 1)


def test_overrides_reach_everywhere() -> None:
    spec = one(
        FULL, "resources.gpu.count=4", "env.NEW=1.50", "ports.0.port=1", "retry=5", "nodes=3", "resources.region="
    )
    assert spec.resources.gpu is not None
    assert (spec.resources.gpu.count, spec.env["NEW"], spec.ports[0].port) == (4, "1.50", 1)
    assert (spec.retry.max, spec.nodes) == (5, 3)
    made = one("run: x", "resources.gpu.name=A100", "roles=")
    assert made.resources.gpu is not None
    assert made.resources.gpu.name == ("A100",)


def test_a_job_from_a_command_line() -> None:
    spec = job_from_argv(["python", "-u", "src/train.py", "--rate", "0.10", "a: b", "-"], overrides=["nodes=2"])
    assert (spec.name, spec.nodes) == ("train", 2)
    assert spec.run == ("python", "-u", "src/train.py", "--rate", "0.10", "a: b", "-")
    assert one(to_native(spec)) == spec
    names = [command_name(words.split()) for words in ("echo hi", "torchrun t.py", "./Big.Run.sh x", "sh -c x", "...")]
    assert names == ["echo", "t", "big.run", "x", "job"]


# --------------------------------------------------------------------------- round trips


def test_a_converted_job_is_the_same_job() -> None:
    spec = one(FULL)
    assert one(to_native(spec)) == spec


_text = st.text(st.characters(blacklist_categories=("Cs", "Cc")), max_size=30)
_script = st.lists(_text, max_size=4).map("\n".join)
_variable = st.from_regex(r"[A-Z][A-Z0-9_]{0,8}", fullmatch=True)
_range = st.one_of(st.just(Range()), st.integers(1, 10**15).map(lambda low: Range(low, None)))
_job = st.fixed_dictionaries(
    {"run": st.one_of(_script.filter(str.strip), st.lists(_text, min_size=1, max_size=4).map(tuple))},
    optional={
        "name": st.from_regex(r"[a-z0-9]([a-z0-9._-]{0,10}[a-z0-9])?", fullmatch=True),
        "setup": _script,
        "env": st.dictionaries(_variable, _script, max_size=3),
        "workspace": st.one_of(st.none(), _text),
        "nodes": st.integers(1, 100),
        "timeout": st.integers(1, 10**6),
        "priority": st.integers(0, 100),
        "resources": st.fixed_dictionaries(
            {"memory": _range, "cpu": _range, "spot": st.sampled_from(["auto", "only"])}
        ),
        "retry": st.fixed_dictionaries({"max": st.integers(0, 9), "on": st.just(("exit:3", "setup"))}),
        "outputs": st.lists(st.from_regex(r"[a-z]{1,5}/?", fullmatch=True), max_size=2).map(tuple),
    },
)


@settings(max_examples=150, deadline=None)
@given(job=_job)
def test_any_job_survives_writing_and_reading(job: dict[str, object]) -> None:
    spec = JobSpec.model_validate(job)
    assert one(to_native(spec)) == spec


# --------------------------------------------------------------------------- anything at all

_said = st.sampled_from(["task", "service", "dev-environment", "skypilot", "dstack", "A100:2", "16GB..", "4x", "8080"])
_scalar = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8), _said)
_word = st.one_of(
    st.sampled_from([*JobSpec.model_fields, *KINDS, "job", "computing", "bootstrap", "server_job", "docker", "gpu"]),
    st.sampled_from(["count", "name", "max", "on", "job_type", "serving_args", "expert_mode", "dialect", "port"]),
    st.sampled_from(
        ["type", "commands", "groups", "replicas", "probes", "repos", "files", "max_duration", "working_dir"]
    ),
    st.sampled_from(["accelerators", "cpus", "memory", "any_of", "infra", "num_nodes", "envs", "workdir", "service"]),
    st.text(max_size=5),
)
_value = st.recursive(
    _scalar,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(_word, inner, max_size=4)),
    max_leaves=12,
)


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.dictionaries(_word, _value, max_size=6), override=st.one_of(st.none(), st.text(max_size=12)))
def test_any_data_is_a_job_or_an_error_of_ours(data: dict[str, object], override: str | None) -> None:
    text = yaml.safe_dump(data, allow_unicode=True)
    jobs: list[JobSpec] = []
    with suppress(NexusError):
        jobs = read_jobs(text, overrides=[] if override is None else [override])
    for spec in jobs:
        compile_job(spec)
        assert one(to_native(spec)) == spec.model_copy(update={"warnings": ()})


@settings(max_examples=400, deadline=None)
@given(text=st.one_of(st.text(max_size=60), st.text("[]{}:-,&*!?|>'\"\n #%@`ab", max_size=60)))
def test_any_text_is_a_job_or_an_error_of_ours(text: str) -> None:
    with suppress(NexusError):
        read_jobs(text)


# --------------------------------------------------------------------------- tables


@pytest.mark.parametrize("name", KINDS.names())
def test_every_kind_has_a_section_whose_fields_say_what_they_are(name: str) -> None:
    section = KINDS.get(name).section
    assert issubclass(section, BaseModel)
    assert section.model_config.get("extra") == "forbid"
    assert section.__doc__
    assert all(field.description for field in section.model_fields.values())


DIALECT_OF = {
    "run: x": "nexus",
    "name: x\nsetup: x\nrun: x\nresources: {memory: 4}": "nexus",
    "name: x\nimage: x\nnodes: 2\nretry: 1\npriority: 1\nenv: {A: 1}\nrun: x": "nexus",
    "workspace: .\njob: x": "fedml",
    "run: x\nresources: {accelerators: A100}": "skypilot",
    "name: x\nsetup: x\nrun: x\nenvs: {A: 1}": "skypilot",
    "type: task\nname: x\nnodes: 2\nresources: {gpu: 1}\ncommands: [x]": "dstack",
    "type: task\nimage: x": "dstack",
    "dialect: skypilot\nrun: x": "skypilot",
}


@pytest.mark.parametrize("text", DIALECT_OF)
def test_a_file_is_in_the_dialect_whose_keys_it_has(text: str) -> None:
    trees = [tree for tree in read_trees(text, "x") if isinstance(tree, Fields)]
    assert detect(trees, "x") == [DIALECT_OF[text]]


def test_documents_that_could_be_in_two_dialects_are_in_the_one_of_their_file() -> None:
    text = "run: x\nnum_nodes: 2\n---\nrun: y\n---\ndialect: nexus\nrun: z\n---\njob: x\ncomputing: {}\n"
    trees = [tree for tree in read_trees(text, "x") if isinstance(tree, Fields)]
    assert detect(trees, "x") == ["skypilot", "skypilot", "nexus", "fedml"]


@pytest.mark.parametrize("name", DIALECTS.names())
def test_every_dialect_can_be_told_by_its_marks(name: str) -> None:
    marks = DIALECTS.get(name).marks
    others = frozenset[str]().union(*(DIALECTS.get(other).marks for other in DIALECTS if other != name))
    assert len(marks - others) >= 3


def test_the_schema_names_every_field_and_kind() -> None:
    schema = job_schema()
    expected = {name for name, field in JobSpec.model_fields.items() if not field.exclude}
    assert set(schema["properties"]) == expected | {"train", "federate", "deploy", "dialect"}
    assert schema["properties"]["kind"]["enum"] == KINDS.names()
    assert schema["additionalProperties"] is False
    for name in expected:
        assert schema["properties"][name].get("description"), name


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("run: x", ""),
        ("run: x\nisolation: process", ""),
        ("run: x\nisolation: sandbox", "sandbox"),
        ("run: x\nimage: busybox", "container"),
        ("run: x\nimage: busybox\nisolation: container", "container"),
    ],
)
def test_how_far_apart_a_task_is_kept(text: str, expected: str) -> None:
    role = compile_job(read_jobs(text)[0]).roles[0]
    assert role.isolation == expected


def test_a_role_may_be_kept_further_apart_than_its_job() -> None:
    text = "roles:\n- {name: a, run: x, isolation: sandbox}\n- {name: b, run: y}\n- {name: c, run: z, image: busybox}\n"
    plan = compile_job(read_jobs(text)[0])
    assert [role.isolation for role in plan.roles] == ["sandbox", "", "container"]


@pytest.mark.parametrize(
    "text",
    ["run: x\nisolation: container", "run: x\nimage: busybox\nisolation: sandbox", "run: x\nisolation: jail"],
)
def test_what_cannot_be_kept_apart_is_said(text: str) -> None:
    with pytest.raises(NexusError, match="isolation"):
        compile_job(read_jobs(text)[0])
