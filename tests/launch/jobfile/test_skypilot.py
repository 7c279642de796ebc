"""SkyPilot's task YAML: every key is honoured or named in a warning; a key that it does not have is an error."""

from __future__ import annotations

import pytest

from nexus.kernel.errors import FileError
from nexus.kernel.units import Range
from nexus.launch.core.compile import compile_job
from nexus.launch.core.jobfile.convert import to_native
from nexus.launch.core.jobfile.dialects.skypilot import KEYS as TASK_KEYS
from nexus.launch.core.jobfile.reading import read_jobs
from nexus.launch.core.jobfile.skypilot_resources import KEYS as RESOURCE_KEYS
from nexus.launch.core.spec import JobSpec
from nexus.launch.model import GpuNeed, OnExit, Port
from tests.launch.jobfile.words import complaint

DIGITS = """
name: Digits_Big
workdir: code
num_nodes: 2
resources:
  accelerators: A100-80GB:8
  cpus: 16+
  memory: 4x
  disk_size: 500
  infra: '*/eu-west-1'
  use_spot: true
  max_hourly_cost: 12.5
  image_id: docker:org/train:1
  ports: [8080, 9000-9001]
  priority: 500
  network_tier: best
  job_recovery: {max_restarts_on_errors: 3, recover_on_exit_codes: [33, 34]}
envs: {RATE: 1.10, ON: yes}
secrets: {HF_TOKEN: null}
setup: pip install -r requirements.txt
run: |
  torchrun --nnodes $SKYPILOT_NUM_NODES train.py
"""


def one(text: str) -> JobSpec:
    (spec,) = read_jobs(text)
    return spec


def warned(spec: JobSpec) -> str:
    return "\n".join(spec.warnings)


def test_everything_a_task_says_is_in_its_plan() -> None:
    spec = one(DIGITS)
    plan = compile_job(spec, files=["requirements.txt"])
    (role,) = plan.roles
    assert (spec.name, spec.workspace, spec.kind, spec.warnings) == ("digits_big", "code", "command", ())
    assert (role.count, role.gang, plan.network, plan.max_price) == (2, True, "fast", 25.0)
    assert role.script == "set +e +o pipefail\ntorchrun --nnodes $SKYPILOT_NUM_NODES train.py\n"
    assert role.setup == "set +e +o pipefail\npip install -r requirements.txt"
    assert role.needs.gpu == GpuNeed(8, ("A100*80GB",))
    assert (role.needs.cpu, role.needs.memory_b) == (Range(16, None), Range(64e9, None))
    assert (role.needs.disk_b, role.needs.regions, role.needs.spot) == (Range(500e9, None), ("eu-west-1",), "only")
    assert role.ports == (Port("http", 8080), Port("port-9000", 9000), Port("port-9001", 9001))
    assert (role.image, plan.priority, plan.secrets) == ("org/train:1", 75, ("HF_TOKEN",))
    assert (plan.retry.max, plan.retry.on) == (
        3,
        ("node_lost", "spot_reclaimed", "exit", "signal", "exit:33", "exit:34"),
    )
    assert role.env == {"RATE": "1.10", "ON": "yes", "SKYPILOT_NUM_NODES": "2"}


def test_a_converted_task_is_the_same_task_in_native_words() -> None:
    spec = one(DIGITS)
    assert one(to_native(spec)) == spec


def test_without_a_folder_nothing_is_sent_and_without_spot_none_is_taken() -> None:
    spec = one("resources: {cpus: 2}\nrun: ls\n")
    assert (spec.workspace, spec.resources.spot, spec.nodes, spec.network) == (None, "never", 1, "any")


@pytest.mark.parametrize(
    ("accelerators", "need"),
    [
        ("V100", GpuNeed(1, ("V100",))),
        ("{V100: 4}", GpuNeed(4, ("V100",))),
        ("{V100: null}", GpuNeed(1, ("V100",))),
        ("['A100:2', 'H100:2']", GpuNeed(2, ("A100", "H100"))),
        ("{A100: 1, L4: 1}", GpuNeed(1, ("A100", "L4"))),
        ("RTX4090:1", GpuNeed(1, ("RTX*4090",))),
    ],
)
def test_ways_to_write_accelerators(accelerators: str, need: GpuNeed) -> None:
    spec = one(f"resources: {{accelerators: {accelerators}}}\nrun: x\n")
    assert compile_job(spec).roles[0].needs.gpu == need
    assert spec.warnings == ()


def test_alternatives_are_joined() -> None:
    spec = one(
        "resources:\n  memory: 32+\n  any_of:\n"
        "    - {accelerators: A100, region: us-east-1, use_spot: true}\n"
        "    - {accelerators: H100, region: eu-west-1}\n"
        "    - {accelerators: 'L4:4', region: eu-west-1, cpus: 8}\n"
        "run: x\n"
    )
    needs = compile_job(spec).roles[0].needs
    assert needs.gpu == GpuNeed(1, ("A100", "H100"))
    assert (needs.regions, needs.spot, needs.memory_b) == (("us-east-1", "eu-west-1"), "auto", Range(32e9, None))
    assert spec.warnings == (
        "job.yaml:6: cpu 8.. is left out: of the alternatives the first one counts",
        "job.yaml:6: L4:4 is left out: alternatives have one count, here 1",
    )
    somewhere = one("resources: {ordered: [{accelerators: A100, region: a}, {accelerators: H100}]}\nrun: x\n")
    assert somewhere.resources.region == ()
    assert "resources.ordered is read as any_of" in warned(somewhere)


def test_a_service() -> None:
    spec = one(
        "name: llm\nresources: {accelerators: L4, ports: [8081, 9000]}\nrun: serve\nservice:\n"
        "  readiness_probe: {path: /health, initial_delay_seconds: 1800}\n  replicas: 2\n  ports: 8081\n"
    )
    (role,) = compile_job(spec).roles
    assert (spec.kind, role.count, role.on_exit) == ("deploy", 2, OnExit.RESTART)
    assert role.ports == (Port("http", 8081), Port("port-9000", 9000))
    assert role.health is not None
    assert (role.health.path, role.health.timeout_s) == ("/health", 1800.0)
    assert spec.warnings == ()
    assert one(to_native(spec)) == spec
    scaled = one("run: x\nservice: {readiness_probe: /, replica_policy: {min_replicas: 0, max_replicas: 3}}\n")
    assert compile_job(scaled).roles[0].count == 1
    assert "service.replica_policy.max_replicas is not used" in warned(scaled)
    assert "one replica is kept" in warned(scaled)


PIPELINE = "name: pipe\n---\nname: a\nnum_nodes: 1\nrun: x\n---\nrun: y\n---\nname: c\nrun: z\n"


def test_several_documents_are_a_pipeline() -> None:
    specs = read_jobs(PIPELINE)
    assert [(spec.name, spec.after) for spec in specs] == [("a", ()), ("pipe-2", ("a",)), ("c", ("pipe-2",))]
    group = read_jobs(PIPELINE.replace("name: pipe", "name: pipe\nexecution: parallel\nprimary_tasks: [a]"))
    assert [spec.after for spec in group] == [(), (), ()]
    assert "primary_tasks is not used" in warned(group[0])


# What is not honoured is named. (a key and its value, words of the warning)
NOT_HONOURED = [
    ("workdir: {url: 'https://x.org/r', ref: main}", "workdir.url is not used"),
    ("file_mounts: {/data: 's3://bucket'}", "file_mounts./data: s3://bucket is not there"),
    ("file_mounts: {/data: {source: 's3://b', mode: MOUNT}}", "file_mounts./data: s3://b is not there"),
    ("envs: {TOKEN: null}", "envs.TOKEN has no value: give it with `--env TOKEN=VALUE`"),
    ("secrets: {TOKEN: hidden}\nnum_nodes: 1", "the value of secrets.TOKEN is left out"),
    ("volumes: {/mnt: v}", "volumes is not used"),
    ("event_callback: echo", "event_callback is not used"),
    ("config: {kubernetes: {}}", "config is not used"),
    ("resources: {infra: aws/us-east-1/us-east-1a}", "resources.infra: aws/us-east-1a is not chosen"),
    ("resources: {infra: k8s/mine}", "resources.infra: k8s/mine is not chosen"),
    ("resources: {cloud: aws}", "resources.cloud is not used"),
    ("resources: {cloud: aws, any_of: [{cpus: 1}]}", "resources.cloud is not used"),
    ("resources: {infra: aws, any_of: [{cpus: 1}, {infra: gcp}]}", "resources.any_of.1.infra: gcp is not chosen"),
    ("resources: {zone: a}", "resources.zone is not used"),
    ("resources: {instance_type: p4d.24xlarge}", "resources.instance_type is not used"),
    ("resources: {image_id: ami-1}", "resources.image_id is not used"),
    ("resources: {autostop: 10}", "resources.autostop is not used"),
    ("resources: {labels: {team: x}}\nnum_nodes: 1", "resources.labels is not used"),
    ("resources: {accelerators: 'L4:0.5'}", "a part of an accelerator (0.5)"),
    ("resources: {memory: 4x, cloud: x}", "4x is a multiple of `cpus`"),
    ("resources: {job_recovery: FAILOVER}", "resources.job_recovery.strategy is not used"),
    ("service: {readiness_probe: {path: /, post_data: x}}", "service.readiness_probe.post_data is not used"),
    ("service: {readiness_probe: /}\nnum_nodes: 2", "num_nodes is not used"),
    ("resources: {any_of: [{cpus: 1, ports: 80}]}", "resources.any_of.0.ports is not used"),
]


@pytest.mark.parametrize(("line", "words"), NOT_HONOURED)
def test_what_is_not_honoured_is_named(line: str, words: str) -> None:
    spec = one(f"{line}\nrun: echo\n")
    assert words in warned(spec)
    assert warned(spec).startswith("job.yaml:")
    assert "hidden" not in to_native(spec) + warned(spec)


# name -> (the file, where: message → hint)
MISTAKES = {
    "a key": (
        "num_node: 2\nenvs: {A: 1}\nrun: x\n",
        "job.yaml:1:1: unknown key 'num_node' → Did you mean `num_nodes`?",
    ),
    "a key of resources": (
        "resources:\n  acelerators: A100\n  cpus: 4\nrun: x\n",
        "job.yaml:2:3: unknown key 'acelerators' → Did you mean `accelerators`?",
    ),
    "a key of an alternative": (
        "resources:\n  any_of:\n    - {cpu: 4}\nrun: x\n",
        "job.yaml:3:8: unknown key 'cpu' → Did you mean `cpus`?",
    ),
    "a key of the probe": (
        "run: x\nservice:\n  readiness_probe: {pth: /}\n",
        "job.yaml:3:21: unknown key 'pth' → Did you mean `path`?",
    ),
    "a number of machines": (
        "run: x\nnum_nodes: two\n",
        "job.yaml:2:12: `num_nodes` needs a number of machines, not 'two' → ",
    ),
    "a size": (
        "run: x\nresources: {cpus: 2, memory: lots}\n",
        "job.yaml:2:30: `resources.memory` needs a size, not 'lots' → Write 16GB, or a range such as 16GB..80GB.",
    ),
    "accelerators": (
        "run: x\nresources: {accelerators: 'A100:x'}\n",
        "job.yaml:2:27: `resources.accelerators` needs accelerators, not 'A100:x' → Write A100, A100:8, or {A100: 8}.",
    ),
    "two names of a place": (
        "run: x\nresources: {infra: aws, region: us-east-1}\n",
        "job.yaml:2:33: `infra` and `region` cannot stand together → Remove `region`.",
    ),
    "spot": (
        "run: x\nresources: {use_spot: maybe}\n",
        "job.yaml:2:23: `resources.use_spot` cannot be 'maybe' → It is one of: true, True, false, False.",
    ),
    "a port": (
        "run: x\nnum_nodes: 1\nresources: {ports: 99999}\n",
        (
            "job.yaml:3:20: `resources.ports` needs ports, not 99999"
            " → Write 8080, or a range of at most 64 such as 8080-8090."
        ),
    ),
    "nothing to run": (
        "num_nodes: 1\nsetup: x\n",
        "job.yaml:1:1: the job says nothing to run → Add `run:` with the command.",
    ),
    "a pool": (
        "resources: {cpus: 1}\npool: {workers: 2}\n",
        "job.yaml:2:7: a pool of workers is no job → Launch the jobs that it would run.",
    ),
    "an order": (
        "name: p\nexecution: paralel\n---\nrun: x\n---\nrun: y\n",
        "job.yaml:2:12: `execution` cannot be 'paralel' → Did you mean `parallel`?",
    ),
    "no mapping": (
        "run: x\nnum_nodes: 1\nresources: [A100]\n",
        "job.yaml:3:12: `resources` needs a mapping, not a list → ",
    ),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_answered_word_for_word(name: str) -> None:
    text, expected = MISTAKES[name]
    assert complaint(text) == expected


# A value of every key that SkyPilot has: none may pass without a trace.
VALUES = {
    "name": "n",
    "workdir": "w",
    "num_nodes": "3",
    "resources": "{cpus: 1}",
    "envs": "{A: 1}",
    "secrets": "[A]",
    "managed_secrets": "[A]",
    "file_mounts": "{/a: b}",
    "file_mounts_mapping": "{a: b}",
    "setup": "s",
    "run": "r",
    "service": "{replicas: 2}",
    "pool": "{workers: 1}",
    "volumes": "{/a: b}",
    "volume_mounts": "[a]",
    "event_callback": "e",
    "inputs": "{a: 1}",
    "outputs": "{a: 1}",
    "config": "{a: 1}",
    "experimental": "{a: 1}",
    "api_server_access": "true",
    "_metadata": "{a: 1}",
}
RESOURCES = {
    "accelerators": "L4",
    "gpus": "L4",
    "cpus": "1",
    "memory": "1",
    "disk_size": "1",
    "infra": "aws/eu",
    "cloud": "aws",
    "region": "eu",
    "zone": "eu-a",
    "use_spot": "true",
    "max_hourly_cost": "1",
    "image_id": "docker:x",
    "ports": "80",
    "priority": "1000",
    "network_tier": "best",
    "job_recovery": "{max_restarts_on_errors: 1}",
    "any_of": "[{cpus: 1}]",
    "ordered": "[{cpus: 1}]",
    "instance_type": "i",
    "disk_tier": "best",
    "local_disk": "nvme",
    "ephemeral_storage": "1",
    "volumes": "[{name: a}]",
    "accelerator_args": "{a: 1}",
    "labels": "{a: b}",
    "autostop": "5",
    "priority_class": "high",
    **dict.fromkeys([key for key in RESOURCE_KEYS if key.startswith("_")], "{a: 1}"),
}


def trace(text: str) -> str:
    """What a file comes to, warnings and errors included."""
    try:
        spec = one(text)
    except FileError as error:
        return str(error)
    return to_native(spec) + warned(spec)


def test_no_key_passes_without_a_trace() -> None:
    assert set(VALUES) == set(TASK_KEYS)
    assert set(RESOURCES) == set(RESOURCE_KEYS)
    for key, value in VALUES.items():
        task = "dialect: skypilot\n" + ("run: x\n" if key != "run" else "")
        assert trace(f"{task}{key}: {value}\n") != trace(task), key
    for key, value in RESOURCES.items():
        task = "dialect: skypilot\nrun: x\nresources: "
        assert trace(f"{task}{{{key}: {value}}}\n") != trace(f"{task}{{}}\n"), key
