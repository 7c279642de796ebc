"""`kind: federate` in a job file, and the example's own."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from nexus.federate.core.jobsection import JOB_KIND, FederateSection, LocalSection, PartSection
from nexus.kernel.errors import UsageError
from nexus.launch.core.compile import compile_job
from nexus.launch.core.spec import JobSpec
from nexus.launch.model import OnExit

SPEC = JobSpec(name="f", kind="federate", setup="pip install -r requirements.txt")


def test_it_compiles_to_a_server_whose_end_ends_the_run_and_a_gang_of_clients():
    section = FederateSection(
        clients=4, rounds=3, algorithm="fedprox", options={"mu": 0.5}, local=LocalSection(lr=0.02), quorum=0.6
    )
    plan = JOB_KIND.compile(SPEC, section)
    server, client = plan.roles
    assert (server.name, server.count, server.on_exit, server.gang) == ("server", 1, OnExit.ANY, True)
    assert (client.name, client.count, client.on_exit, client.gang) == ("client", 4, OnExit.IGNORE, True)
    assert [port.name for port in server.ports] == ["federate"]
    assert client.ports == ()
    assert server.argv == client.argv
    assert server.argv[:3] == ("python", "-m", "nexus.federate.run")
    sets = {server.argv[i + 1] for i, word in enumerate(server.argv) if word == "--set"}
    assert sets == {"rounds=3", "algorithm=fedprox", "algorithm.mu=0.5", "local.lr=0.02", "quorum=0.6"}
    assert server.setup == SPEC.setup


def test_the_arguments_are_read_back_as_the_settings_they_came_from():
    from nexus.federate.core.settings import override
    from nexus.federate.model import Local, Settings

    section = FederateSection(rounds=3, cohort=5, algorithm="fedadam", options={"tau": 0.01}, deadline_s=5.0)
    argv = JOB_KIND.compile(SPEC, section).role("client").argv
    changes = dict(argv[i + 1].split("=") for i, word in enumerate(argv) if word == "--set")
    assert override(Settings(local=Local(lr=0.5)), changes) == Settings(
        rounds=3, cohort=5, algorithm="fedadam", options={"tau": 0.01}, deadline_s=5.0, local=Local(lr=0.5)
    )


def test_without_a_section_the_files_own_settings_hold():
    plan = compile_job(SPEC, files=["app.py", "requirements.txt"])
    assert plan.role("client").count == 3
    assert "--set" not in plan.role("server").argv
    assert plan.role("server").setup_files == ("requirements.txt",)


@pytest.mark.parametrize(
    ("section", "field"),
    [
        (FederateSection(algorithm="fedporx"), "federate.algorithm"),
        (FederateSection(algorithm="fedprox", options={"nu": 1.0}), "federate.options"),
        (FederateSection(algorithm="fedprox", options={"mu": -1.0}), "federate.options"),
        (FederateSection(options={"mu": 1.0}), "federate.options"),
    ],
)
def test_wrong_algorithms_and_options_point_at_their_place(section, field):
    with pytest.raises(UsageError) as caught:
        JOB_KIND.compile(SPEC, section)
    assert caught.value.details["field"] == field
    assert caught.value.hint


def test_a_command_beside_it_is_refused():
    with pytest.raises(UsageError, match=r"federate\.app"):
        JOB_KIND.compile(JobSpec(kind="federate", run="python x.py"), FederateSection())


@pytest.mark.parametrize("app", ["/etc/passwd.py", "../app.py", "a/../../b.py", "app.txt", "-m.py"])
def test_the_app_lies_inside_the_workspace(app):
    with pytest.raises(ValidationError):
        FederateSection(app=app)


def test_the_examples_job_file_says_what_it_should():
    from nexus.launch.core.compile import compile_job
    from nexus.launch.core.jobfile.reading import read_jobs
    from tests.federate.tasks import APP

    [spec] = read_jobs((APP.parent / "job.yaml").read_text())
    plan = compile_job(spec)
    assert plan.role("client").count == 3
    assert "signal" in plan.retry.on
    section = spec.sections["federate"]
    assert isinstance(section, FederateSection)
    assert (APP.parent / section.app).is_file()


def test_parts_are_named_or_have_options():
    section = FederateSection(defence="median", compression=PartSection(name="top_k", options={"part": 0.2}))
    argv = JOB_KIND.compile(SPEC, section).role("server").argv
    assert {"defence=median", "compression=top_k", "compression.part=0.2"} <= set(argv)
    with pytest.raises(UsageError, match="no option") as caught:
        JOB_KIND.compile(SPEC, FederateSection(defence=PartSection(name="median", options={"x": 1})))
    assert caught.value.details["field"] == "federate.defence.options"


def test_secure_aggregation_reaches_every_task():
    section = FederateSection(secure_aggregation=PartSection(name="secagg_plus", options={"neighbours": 8}))
    for role in JOB_KIND.compile(SPEC, section).roles:
        said = " ".join(role.argv)
        assert "--set secure_aggregation=secagg_plus --set secure_aggregation.neighbours=8.0" in said
    with pytest.raises(UsageError, match="threshold") as caught:
        JOB_KIND.compile(
            SPEC, FederateSection(secure_aggregation=PartSection(name="secagg", options={"threshold": 0.3}))
        )
    assert caught.value.details["field"] == "federate.secure_aggregation.options"
