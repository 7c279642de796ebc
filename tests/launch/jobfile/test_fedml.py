"""FedML's job.yaml: every key of its reference is honoured, or named in a warning."""

from __future__ import annotations

import pytest

from nexus.kernel.errors import FileError
from nexus.launch.core.compile import compile_job
from nexus.launch.core.jobfile.convert import to_native
from nexus.launch.core.jobfile.reading import read_jobs
from nexus.launch.core.spec import JobSpec
from nexus.launch.model import GpuNeed, OnExit

HELLO = """
fedml_env:
  project_name: mine
workspace: hello_world
job_type: train
job_subtype: generate_training
job: |
  hostname
  python hello_world.py --rate ${FEDML_ENV_FEDML_MODEL_ARGS_RATE}
bootstrap: |
  pip install -r requirements.txt
computing:
  minimum_num_gpus: 2
  maximum_cost_per_hour: $1.75
  allow_cross_cloud_resources: false
  device_type: GPU
  resource_type: RTX-4090
framework_type: pytorch
containerize: false
fedml_data_args:
  dataset_name: mnist
  nested: {path: /tmp/x, list: [1, two]}
fedml_model_args: {rate: 0.10, name: }
"""


def one(text: str) -> JobSpec:
    (spec,) = read_jobs(text)
    return spec


def warned(spec: JobSpec) -> str:
    return "\n".join(spec.warnings)


def test_a_training_job() -> None:
    spec = one(HELLO)
    plan = compile_job(spec, files=["requirements.txt"])
    (role,) = plan.roles
    assert (spec.name, spec.workspace, spec.kind) == ("hello_world", "hello_world", "train")
    assert role.script.startswith("set -e\nhostname\npython hello_world.py")
    assert (role.setup, role.setup_files) == ("pip install -r requirements.txt\n", ("requirements.txt",))
    assert role.needs.gpu == GpuNeed(2, ("RTX-4090",))
    assert (plan.max_price, plan.network, role.image) == (1.75, "fast", None)
    assert role.env == {
        "FEDML_CURRENT_VERSION": "release",
        "FEDML_ENV_FEDML_DATA_ARGS_DATASET_NAME": "mnist",
        "FEDML_ENV_FEDML_DATA_ARGS_NESTED_PATH": "/tmp/x",
        "FEDML_ENV_FEDML_DATA_ARGS_NESTED_LIST": '[1, "two"]',
        "FEDML_ENV_FEDML_MODEL_ARGS_RATE": "0.10",
        "FEDML_ENV_FEDML_MODEL_ARGS_NAME": "",
    }
    assert spec.warnings == (
        "job.yaml:6: job_subtype 'generate_training' is not known, and changes nothing",
        "job.yaml:3: fedml_env.project_name is not used: a run belongs to the project of your token",
        "job.yaml:18: framework_type changes nothing: every framework is prepared by `bootstrap`",
    )


def test_a_federated_job_is_a_server_and_its_clients() -> None:
    text = """
job_type: federate
job_subtype: cross_silo
workspace: .
job: python torch_client.py --rank $FEDML_CLIENT_RANK
server_job: python torch_server.py --rank 0
train_args: {client_num_in_total: 3, federated_optimizer: FedAvg}
"""
    spec = one(text)
    server, client = compile_job(spec).roles
    assert (server.name, server.count, server.on_exit, server.gang) == ("server", 1, OnExit.ANY, True)
    assert (client.name, client.count, client.on_exit, client.gang) == ("client", 3, OnExit.IGNORE, True)
    assert server.script == "set -e\npython torch_server.py --rank 0"
    assert client.env["FEDML_ENV_TRAIN_ARGS_FEDERATED_OPTIMIZER"] == "FedAvg"
    assert [port.name for port in server.ports] == ["rendezvous"]
    assert spec.warnings == ()
    assert "client_num_in_total" in warned(one(text.replace("client_num_in_total", "clients")))


def test_a_federated_job_without_a_server_is_a_simulation() -> None:
    spec = one("job_type: federate\njob_subtype: simulation\njob: python simulate.py\n")
    (role,) = compile_job(spec).roles
    assert (spec.kind, role.count, role.script, spec.warnings) == ("command", 1, "set -e\npython simulate.py", ())


def test_scripts_for_several_systems() -> None:
    spec = one(
        "job: {run_on_posix: ls, run_on_windows: dir}\nbootstrap: {run_on_windows: x}\ncomputing: {device_type: CPU}\n"
    )
    assert (spec.run, spec.setup, spec.kind) == ("set -e\nls", "", "command")
    assert warned(spec).count("run_on_windows is not used") == 2
    assert spec.resources.gpu is None
    with pytest.raises(FileError, match="unknown key 'run_on_posx'"):
        one("job: {run_on_posx: ls}\ncomputing: {}\n")


def test_an_endpoint() -> None:
    spec = one("job_type: serve\njob: python serve.py\nserving_args: {model_name: My/Model, endpoint_name: E 1}\n")
    section = spec.sections["deploy"].model_dump()
    assert (spec.kind, section["model"], section["endpoint"]) == ("deploy", "model://my-model", "e-1")
    assert section["engine"] == "command"


def test_a_container() -> None:
    spec = one("job: x\ndocker: {image: 'a/b:1', ports: [2345, 80]}\ncontainerize: true\n")
    assert spec.image == "a/b:1"
    assert [(port.name, port.port) for port in spec.ports] == [("http", 2345), ("port-80", 80)]
    assert one("job: x\ndocker: {image: 'a/b:1'}\ncontainerize: false\n").image is None
    assert "containerize without docker.image" in warned(one("job: x\ncontainerize: true\n"))


def test_expert_mode_is_a_command_in_pieces() -> None:
    spec = one(
        "expert_mode:\n  executable_interpreter: python -u\n  executable_file_folder: src\n"
        "  executable_file: my main.py\n"
        "  executable_conf_option: --cf\n  executable_conf_file_folder: conf/\n  executable_conf_file: fedml.yaml\n"
        "  executable_args: --rank 1 $EXTRA\n  bootstrap: prepare.sh\n  data_location: /data\n"
    )
    assert spec.run == "set -e\npython -u 'src/my main.py' --cf conf/fedml.yaml --rank 1 $EXTRA"
    assert spec.setup == "bash prepare.sh\n"
    assert "data_location" in warned(spec)


# What is not honoured is named. (key, a value, a word of the warning)
NOT_HONOURED = [
    ("fedml_env", "{federate_project_name: x}", "federate_project_name"),
    ("image_pull_policy", "Always", "image_pull_policy"),
    ("docker", "{username: me, password: secret, registry: r}", "docker.password"),
    ("job_args", "{job_id: 1, config_id: 2}", "job_args.config_id"),
    ("run_api_key", "secret", "run_api_key"),
    ("serving_args", "{model_id: 7, model_name: x}", "serving_args.model_id"),
    ("computing", "{minimum_num_gpu: 1}", "Did you mean `minimum_num_gpus`?"),
    ("computing", "{device_type: TPU}", "'TPU' is not known"),
    ("computing", "{minimum_num_gpus: 0, resource_type: A100}", "resource_type is left out"),
    ("job_subtype", "smart_phone", "devices are not placed"),
    ("framework_type", "deepspeed", "framework_type"),
    ("job_nam", "x", "Did you mean `job_name`?"),
    ("environment_args", "{bootstrap: b.sh, other: 1}", "environment_args.other"),
    ("expert_mode", "{executable_file: x.py}", "expert_mode.executable_file is left out"),
]


@pytest.mark.parametrize(("key", "value", "word"), NOT_HONOURED)
def test_what_is_not_honoured_is_named(key: str, value: str, word: str) -> None:
    spec = one(
        f"job: echo\ncomputing: {{}}\n{key}: {value}\n" if key != "computing" else f"job: echo\n{key}: {value}\n"
    )
    assert word in warned(spec)
    assert "secret" not in to_native(spec)
    assert "secret" not in warned(spec)


@pytest.mark.parametrize("subtype", ["general_training", "single_machine_training", "simulation"])
def test_subtypes_that_need_nothing(subtype: str) -> None:
    spec = one(f"job: x\njob_subtype: {subtype}\n")
    assert (spec.network, spec.warnings) == ("any", ())


@pytest.mark.parametrize(
    ("said", "kind"),
    [("train", "train"), ("federate", "federate"), ("dev-environment", "session")],
)
@pytest.mark.parametrize("key", ["job_type", "task_type"])
def test_types_of_job(key: str, said: str, kind: str) -> None:
    text = f"{key}: {said}\njob: x\n" + ("server_job: y\n" if kind == "federate" else "")
    assert one(text).kind == kind


def test_a_type_that_is_none_of_them() -> None:
    with pytest.raises(FileError) as caught:
        one("job: x\njob_type: federated\n")
    assert (caught.value.where, caught.value.hint) == ("job.yaml:2:11", "Did you mean `federate`?")


def test_mistakes_stand_where_fedml_has_them() -> None:
    with pytest.raises(FileError) as caught:
        one("job: x\ncomputing:\n  minimum_num_gpus: many\n")
    assert caught.value.where == "job.yaml:3:21"


def test_a_converted_job_is_the_same_job_in_native_words() -> None:
    spec = one(HELLO)
    again = one(to_native(spec))
    assert again == spec.model_copy(update={"warnings": ()})
