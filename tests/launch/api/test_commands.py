"""The commands, on a real application."""

from __future__ import annotations

import json
from importlib import import_module

import pytest
from click.testing import CliRunner, Result

from nexus.infra.shell import Shell
from nexus.kernel.errors import ForbiddenError, NotFoundError
from nexus.kernel.identity import Principal, PrincipalKind, Role
from nexus.launch.core.queue.views import QuotaRequest
from nexus.launch.model import TaskState
from tests.launch.api.conftest import Site
from tests.launch.api.test_api import submission
from tests.launch.build import needs, role


def nexus(site: Site, command: str, *args: str, as_json: bool = False) -> Result:
    found = import_module(f"nexus.launch.faces.commands.{command}").command
    http = site.client().http
    result = CliRunner().invoke(found, list(args), obj=Shell(connect=lambda: http, json=as_json))
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def test_runs(site: Site) -> None:
    assert "No runs yet" in nexus(site, "runs").stdout or nexus(site, "runs").stdout.startswith("ID")
    agent = site.join("lab")
    run = site.client().submit(submission("digits"))
    agent.say(agent.order(), TaskState.RUNNING)
    head, row = nexus(site, "runs").stdout.splitlines()
    assert head.split() == ["ID", "NAME", "KIND", "STATE", "WHERE", "AGE", "DURATION", "COST"]
    assert row.split()[:5] == [run.id, "digits", "command", "running", "lab"]
    assert json.loads(nexus(site, "runs", as_json=True).stdout)[0]["id"] == run.id
    assert nexus(site, "runs", "--state", "failed", as_json=True).stdout.strip() == "[]"


def test_show_and_why_tell_the_whole_story(site: Site) -> None:
    agent = site.join("lab")
    site.client().submit(submission("digits", job="run: false\n"))
    agent.say(agent.order(), TaskState.FAILED, exit_code=3, cause="exit", detail="exited with code 3")
    shown = nexus(site, "show", "digits").stdout
    for word in ("digits", "failed", "exited with code 3", "main[0]", "lab", "task.failed", "run.queued"):
        assert word in shown
    assert nexus(site, "show", "digits", "--job").stdout == "run: false\n"
    why = nexus(site, "why", "digits").stdout
    assert why.startswith("digits failed: exited with code 3")
    assert "nexus logs" in why
    everything = json.loads(nexus(site, "show", "digits", as_json=True).stdout)
    assert set(everything) == {"run", "tasks", "events"}


def test_why_lists_every_rejection(site: Site) -> None:
    site.join("lab")
    site.client().submit(submission("big", role(needs=needs(cpu=64))))
    site.settle()
    why = nexus(site, "why", "big").stdout
    assert "lab: needs 64 cpu; has 4" in why
    assert "nexus agent join" in why
    assert "big waits: no node fits" in nexus(site, "runs").stderr


def test_why_names_the_change_that_would_help(site: Site) -> None:
    site.join("lab")
    client = site.client()
    run = client.submit(submission("picky", role(needs=needs(cpu=2, regions=("eu-*",)))))
    site.settle()
    helps = "without the region eu-*: it fits now, for 0.00/h, 1 more node could take it"
    assert helps in nexus(site, "why", "picky").stdout
    assert [one.nodes for one in client.whatif(run.id)] == [1]
    with pytest.raises(NotFoundError):
        site.client(project="other").whatif(run.id)
    client.stop(run.id)
    site.settle()
    assert client.whatif(run.id) == []


def test_stop_and_restart(site: Site) -> None:
    run = site.client().submit(submission("x"))
    assert nexus(site, "stop", "x").stdout.strip() == f"{run.id}  x: stops"
    site.settle()
    assert nexus(site, "stop", run.id, "--wait").stdout.strip() == f"{run.id}  x: is stopped"
    again = nexus(site, "restart", run.id).stdout.strip()
    assert site.client().run("x").id == again != run.id


def test_nodes(site: Site) -> None:
    assert "nexus agent join" in nexus(site, "nodes").stdout
    site.join("lab")
    head, row = nexus(site, "nodes").stdout.splitlines()
    assert head.split()[:3] == ["NAME", "STATE", "TASKS"]
    assert row.split()[:6] == ["lab", "online", "0", "0", "of", "4"]
    assert nexus(site, "nodes", "drain", "lab").stdout == "lab: draining\n"
    assert nexus(site, "nodes", "drain", "lab", "--off").stdout == "lab: online\n"
    assert nexus(site, "nodes", "remove", "lab").stdout == "lab: removed\n"


def test_events(site: Site) -> None:
    run = site.client().submit(submission("x"))
    site.join("lab")
    lines = nexus(site, "events").stdout.splitlines()
    (queued,) = [line for line in lines if "run.queued" in line]
    assert "x  by ada" in queued
    assert lines.index(queued) < next(at for at, line in enumerate(lines) if "node.joined" in line)
    assert len(nexus(site, "events", "--run", run.id).stdout.splitlines()) == 1


def test_a_quota_is_shown_to_everybody_and_set_by_owners_only(site: Site) -> None:
    agent = site.join("lab")
    site.client().submit(submission("digits", role(needs=needs(cpu=2))))
    agent.order()
    with pytest.raises(ForbiddenError, match="owners"):
        nexus(site, "quota", "set", "--cpu", "6")
    owner = Principal(PrincipalKind.USER, "ada", "p", Role.ADMIN, owner=True)
    site.call(site.launch.quotas.change, owner, QuotaRequest(weight=2.0, cpu=6.0, memory_b=16 * 1024**3))
    shown = nexus(site, "quota").stdout
    for word in ("Project p, weight 2, 1 tasks", "17.2 GB", "cpu               2     6"):
        assert word in shown
    limits = json.loads(nexus(site, "quota", "show", as_json=True).stdout)["quota"]
    assert (limits["cpu"], limits["memory_b"], limits["budget"]) == (6.0, 16 * 1024**3, None)
    assert nexus(site, "quota", "set", "--gpus", "-1").exit_code == 2


def test_a_node_is_shared_and_taken_back(site: Site) -> None:
    site.join("gpu1")
    assert nexus(site, "nodes", "share", "gpu1").stdout == "gpu1: shared\n"
    assert "online, shared" in nexus(site, "nodes").stdout
    assert nexus(site, "nodes", "share", "gpu1", "--private").stdout == "gpu1: private\n"
    assert not any(one["node"]["shared"] for one in json.loads(nexus(site, "nodes", as_json=True).stdout))
