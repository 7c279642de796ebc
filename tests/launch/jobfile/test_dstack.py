"""dstack's files: every key is honoured or named in a warning; a key that it does not have is an error."""

from __future__ import annotations

import pytest

from nexus.kernel.errors import FileError
from nexus.kernel.units import Range
from nexus.launch.core.compile import compile_job
from nexus.launch.core.jobfile.convert import to_native
from nexus.launch.core.jobfile.dialects.dstack import KEYS
from nexus.launch.core.jobfile.dstack_parts import attempts
from nexus.launch.core.jobfile.reading import read_jobs
from nexus.launch.core.spec import JobSpec
from nexus.launch.model import GpuNeed, OnExit, Port
from tests.launch.jobfile.words import complaint

TRAIN = """
type: task
name: train
nodes: 2
image: org/train:1
working_dir: src
env:
  - RATE=1.10
  - HF_TOKEN=${{ secrets.HF_TOKEN }}
repos: [.]
commands:
  - pip install -r requirements.txt
  - |
    torchrun --nnodes $DSTACK_NODES_NUM train.py
ports: [8080, '9000:9001', '*:6006']
resources:
  gpu: A100,H100:40GB..80GB:8
  cpu: 16..
  memory: 64GB..
  disk: 500GB
regions: [eu-west-1]
spot_policy: auto
max_price: 12.5
max_duration: 6h
stop_duration: 90
priority: 80
retry: {on_events: [interruption, error], duration: 10m}
"""


def one(text: str) -> JobSpec:
    (spec,) = read_jobs(text)
    return spec


def warned(spec: JobSpec) -> str:
    return "\n".join(spec.warnings)


def test_everything_a_task_says_is_in_its_plan() -> None:
    spec = one(TRAIN)
    plan = compile_job(spec)
    (role,) = plan.roles
    assert (spec.name, spec.workspace, spec.kind) == ("train", ".", "command")
    assert spec.warnings == (
        "job.yaml:15: ports.1: port 9000 here is not used: a job's ports are those of its machine",
    )
    assert (role.count, role.gang, plan.network, plan.max_price) == (2, True, "fast", 25.0)
    assert role.script == (
        "set +o pipefail\ncd -- src\npip install -r requirements.txt\ntorchrun --nnodes $DSTACK_NODES_NUM train.py\n"
    )
    assert role.needs.gpu == GpuNeed(8, ("A100", "H100"), Range(40e9, 80 * 1024**3))
    assert (role.needs.cpu, role.needs.memory_b) == (Range(16, None), Range(64e9, None))
    assert (role.needs.disk_b, role.needs.regions, role.needs.spot) == (Range(500e9, None), ("eu-west-1",), "auto")
    assert role.ports == (Port("http", 8080), Port("port-9001", 9001), Port("port-6006", 6006))
    assert (role.image, plan.priority, plan.secrets) == ("org/train:1", 80, ("HF_TOKEN",))
    assert (plan.timeout_s, plan.grace_s) == (6 * 3600, 90)
    assert plan.retry.on == ("node_lost", "spot_reclaimed", "exit", "signal", "setup")
    assert role.env == {"RATE": "1.10", "DSTACK_RUN_NAME": "train"}


def test_a_converted_task_is_the_same_task_in_native_words() -> None:
    spec = one(TRAIN)
    assert one(to_native(spec)) == spec.model_copy(update={"warnings": ()})


def test_what_a_task_does_not_say() -> None:
    spec = one("type: task\ncommands: [ls]\n")
    assert (spec.workspace, spec.resources.spot, spec.nodes, spec.retry.max) == (None, "never", 1, 0)


@pytest.mark.parametrize(
    ("gpu", "need"),
    [
        ("24GB", GpuNeed(1, (), Range(24e9, None))),
        ("24GB..", GpuNeed(1, (), Range(24e9, None))),
        ("2", GpuNeed(2)),
        ("H100:8", GpuNeed(8, ("H100",))),
        ("8:80GB:A100", GpuNeed(8, ("A100",), Range(80e9, None))),
        ("{name: [A100, H100], memory: 40GB.., count: 4}", GpuNeed(4, ("A100", "H100"), Range(40e9, None))),
        ("{count: {min: 2}}", GpuNeed(2)),
        ("0..", GpuNeed(0)),
    ],
)
def test_ways_to_write_an_accelerator(gpu: str, need: GpuNeed) -> None:
    spec = one(f"type: task\ncommands: [x]\nresources: {{gpu: {gpu}}}\n")
    assert compile_job(spec).roles[0].needs.gpu == need
    assert spec.warnings == ()


def test_groups_of_nodes_are_roles() -> None:
    spec = one(
        "type: task\nname: rl\nmax_price: 2\nspot_policy: spot\nregions: [eu-1]\ngroups:\n"
        "  - {name: learner, commands: [learn], resources: {gpu: 'H100:8'}, ports: [29500]}\n"
        "  - {nodes: 3, commands: [roll, out], resources: {cpu: 4}}\n"
    )
    plan = compile_job(spec)
    learner, actors = plan.roles
    assert (learner.name, learner.count, learner.gang, learner.needs.gpu.count) == ("learner", 1, True, 8)
    assert (actors.name, actors.count, actors.gang, actors.script) == ("1", 3, True, "set +o pipefail\nroll\nout\n")
    assert {(role.needs.spot, role.needs.regions) for role in plan.roles} == {("only", ("eu-1",))}
    assert (plan.max_price, plan.network, learner.ports) == (8.0, "fast", (Port("http", 29500),))
    assert one(to_native(spec)) == spec


def test_a_service() -> None:
    spec = one(
        "type: service\nname: llm\ncommands: [serve]\nport: 80:8000\nreplicas: 2\n"
        "probes: [{type: http, url: /health, interval: 5s}]\nhttps: true\n"
    )
    (role,) = compile_job(spec).roles
    assert (spec.kind, role.count, role.on_exit, role.ports) == ("deploy", 2, OnExit.RESTART, (Port("http", 8000),))
    assert role.health is not None
    assert (role.health.path, role.health.every_s) == ("/health", 5.0)
    assert spec.warnings == ()
    assert one(to_native(spec)) == spec
    scaled = one(
        "type: service\ncommands: [x]\nport: 80\nreplicas: 0..4\nscaling: {metric: rps, target: 10}\nmodel: org/m\n"
    )
    assert compile_job(scaled).roles[0].count == 1
    assert [warning.split()[1] for warning in scaled.warnings] == ["model", "scaling", "replicas:"]


def test_a_dev_environment_is_a_session_that_stays() -> None:
    spec = one("type: dev-environment\nide: vscode\ninit: [pip install x]\nresources: {gpu: 1}\n")
    (role,) = compile_job(spec).roles
    assert (spec.kind, role.script) == ("session", "set +o pipefail\npip install x\nexec sleep infinity\n")
    assert "job.yaml:2: ide is not used" in warned(spec)
    assert compile_job(spec).idle_stop_s is None
    assert compile_job(one("type: dev-environment\ninactivity_duration: 2h\n")).idle_stop_s == 7200
    assert compile_job(one("type: dev-environment\ninactivity_duration: off\n")).idle_stop_s is None


def test_files_beside_the_job_file_are_sent_with_its_folder() -> None:
    assert one("type: task\ncommands: [x]\nfiles: [train.py, ./conf]\n").workspace == "."
    away = one("type: task\ncommands: [x]\nfiles: ['~/.netrc', 'a.py:b.py', ../up]\n")
    assert away.workspace is None
    assert [warning.split()[1] for warning in away.warnings] == ["files.0:", "files.1:", "files.2:"]


def test_attempts_fill_the_time_that_retries_may_take() -> None:
    assert [attempts(seconds) for seconds in (1, 5, 15, 600, 3600)] == [1, 1, 2, 6, 16]
    assert attempts(1e9) == 1000


# What is not honoured is named. (a key and its value, words of the warning)
NOT_HONOURED = [
    ("python: '3.12'", "python is not used"),
    ("env: [TOKEN]", "env.TOKEN has no value: give it with `--env TOKEN`"),
    ("env: {A: '${{ secrets.B }}'}", "env.A is left out: a secret becomes the variable of its own name"),
    ("backends: [aws]", "backends is not used"),
    ("fleets: [mine]", "fleets is not used"),
    ("volumes: ['/data:/data']", "volumes is not used"),
    ("privileged: true", "privileged is not used"),
    ("registry_auth: {username: me, password: hidden}", "registry_auth is not used"),
    ("idle_duration: 1h", "idle_duration is not used"),
    ("utilization_policy: {min_gpu_utilization: 10, time_window: 1h}", "utilization_policy is not used"),
    ("schedule: {cron: '* * * * *'}", "schedule is not used"),
    ("working_dir: /src", "working_dir /src is not used"),
    ("shell: /usr/bin/zsh", "shell is not used"),
    ("setup: [x]", "setup is not used"),
    ("repos: ['https://x.org/r']", "https://x.org/r is not cloned"),
    ("repos: [{local_path: ., branch: b, path: sub}]", "repos.0.branch is not used"),
    ("resources: {shm_size: 8GB}", "resources.shm_size is not used"),
    ("resources: {cpu: 'arm:4'}", "resources.cpu: arm is not chosen"),
    ("resources: {cpu: {arch: arm, count: 4}}", "resources.cpu.arch is not used"),
    ("resources: {gpu: 'nvidia:24GB'}", "resources.gpu.vendor is not used"),
    ("resources: {gpu: {total_memory: 80GB}}", "resources.gpu.total_memory is not used"),
    ("resources: {gpu: 'A100:1..4'}", "of 1 to 4, 1 is asked for"),
    ("retry: {on_events: [no-capacity], duration: 1h}", "retry.duration is not used"),
    ("stop_duration: off", "stop_duration off is not used"),
]


@pytest.mark.parametrize(("line", "words"), NOT_HONOURED)
def test_what_is_not_honoured_is_named(line: str, words: str) -> None:
    spec = one(f"type: task\n{line}\ncommands: [echo $DSTACK_NODE_RANK]\n")
    assert words in warned(spec)
    assert warned(spec).startswith("job.yaml:")
    assert "hidden" not in to_native(spec) + warned(spec)


def test_defaults_said_outright_are_not_warned_of() -> None:
    spec = one(
        "type: task\ncommands: [x]\nprivileged: false\nstartup_order: any\nmax_duration: off\nretry: false\n"
        "idle_duration: off\n"
    )
    assert (spec.warnings, spec.timeout, spec.retry.max) == ((), None, 0)


# name -> (the file, where: message → hint)
MISTAKES = {
    "a key": (
        "type: task\ncomands: [x]\n",
        "job.yaml:2:1: unknown key 'comands' → Did you mean `commands`?",
    ),
    "a key of another type": (
        "type: dev-environment\nnodes: 2\n",
        "job.yaml:2:1: a dev-environment has no `nodes` → A task may have it.",
    ),
    "a key within": (
        "type: task\ncommands: [x]\nresources:\n  gpu: {memry: 24GB}\n",
        "job.yaml:4:9: unknown key 'memry' → Did you mean `memory`?",
    ),
    "a type": (
        "type: tsk\ncommands: [x]\n",
        "job.yaml:1:7: `type` cannot be 'tsk' → Did you mean `task`?",
    ),
    "no type": (
        "spot_policy: spot\ncommands: [x]\n",
        "job.yaml:1:1: `type` is needed → It is one of: task, service, dev-environment.",
    ),
    "a fleet": (
        "type: fleet\nname: mine\nnodes: 2\n",
        "job.yaml:1:7: a fleet is no job → `nexus nodes` lists machines; each joins with `nexus agent`.",
    ),
    "nothing to run": (
        "type: task\nimage: nginx\n",
        "job.yaml:1:1: the job says nothing to run → Add `commands:`, even to an `image`.",
    ),
    "no port": (
        "type: service\ncommands: [x]\n",
        "job.yaml:1:1: `port` is needed → Add `port:`, the port that a replica listens on.",
    ),
    "groups of replicas": (
        "type: service\nport: 80\nreplicas:\n  - {count: 1, commands: [x]}\n",
        "job.yaml:4:3: groups of replicas cannot be had in one deployment → Write a service for each group.",
    ),
    "an accelerator": (
        "type: task\ncommands: [x]\nresources: {gpu: 'A100:H100'}\n",
        (
            "job.yaml:3:18: `resources.gpu` needs an accelerator, not 'A100:H100'"
            " → Write A100, 24GB.., A100:2, or A100,H100:80GB:8."
        ),
    ),
    "a duration": (
        "type: task\ncommands: [x]\nmax_duration: long\n",
        "job.yaml:3:15: `max_duration` needs a duration, not 'long' → Write 90s, 2h, 1d or off.",
    ),
    "an event": (
        "type: task\ncommands: [x]\nretry: {on_events: [eror]}\n",
        "job.yaml:3:21: `retry.on_events.0` cannot be 'eror' → Did you mean `error`?",
    ),
    "a policy": (
        "type: task\ncommands: [x]\nspot_policy: ondemand\n",
        "job.yaml:3:14: `spot_policy` cannot be 'ondemand' → Did you mean `on-demand`?",
    ),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_answered_word_for_word(name: str) -> None:
    text, expected = MISTAKES[name]
    assert complaint(text) == expected


# A value of every key that dstack has: none may pass without a trace.
VALUES = {
    "name": "n",
    "image": "i",
    "working_dir": "w",
    "env": "{A: 1}",
    "shell": "zsh",
    "resources": "{cpu: 1}",
    "priority": "1",
    "repos": "[.]",
    "files": "[a]",
    "setup": "[a]",
    "ports": "[80]",
    "regions": "[eu]",
    "spot_policy": "spot",
    "retry": "true",
    "max_duration": "1h",
    "stop_duration": "1m",
    "max_price": "1",
    "nodes": "2",
    "groups": "[{commands: [y]}]",
    "commands": "[z]",
    "ide": "vscode",
    "version": "'1'",
    "init": "[a]",
    "inactivity_duration": "1h",
    "port": "81",
    "auth": "false",
    "replicas": "2",
    "probes": "[{type: http, url: /x}]",
    "gateway": "g",
    "strip_prefix": "false",
    "model": "m",
    "https": "auto",
    "scaling": "{metric: rps, target: 1}",
    "rate_limits": "[{rps: 1}]",
    "schedule": "{cron: x}",
    "utilization_policy": "{min_gpu_utilization: 1, time_window: 5m}",
    "registry_auth": "{username: u, password: p}",
    "backend_options": "[{type: aws}]",
    "tags": "{a: b}",
    "startup_order": "master-first",
    "stop_criteria": "master-done",
    "creation_policy": "reuse",
    **dict.fromkeys(["backends", "availability_zones", "instance_types", "fleets", "instances", "volumes"], "[a]"),
    **dict.fromkeys(["reservation", "idle_duration", "user", "entrypoint", "home_dir", "python"], "a"),
    **dict.fromkeys(["privileged", "docker", "nvcc", "single_branch", "dstack"], "true"),
}
BASES = {
    "task": {"type": "task", "commands": "[x]"},
    "service": {"type": "service", "commands": "[x]", "port": "80"},
    "dev-environment": {"type": "dev-environment"},
}


def trace(keys: dict[str, str]) -> str:
    """What a file comes to, warnings and errors included."""
    try:
        spec = one("".join(f"{key}: {value}\n" for key, value in keys.items()))
    except FileError as error:
        return str(error)
    return to_native(spec) + warned(spec)


@pytest.mark.parametrize("kind", BASES)
def test_no_key_passes_without_a_trace(kind: str) -> None:
    assert set(VALUES) | {"type"} == {key for keys in KEYS.values() for key in keys}
    for key in set(KEYS[kind]) - {"type"}:
        assert trace(BASES[kind] | {key: VALUES[key]}) != trace(BASES[kind]), key
