"""The routes, through their typed client and as plain HTTP."""

from __future__ import annotations

from dataclasses import replace

import pytest

from nexus.kernel.errors import ConflictError, DeniedError, ForbiddenError, NotFoundError, UsageError
from nexus.kernel.identity import Role
from nexus.launch.model import NodeState, OnExit, RunState, Submission, TaskState
from tests.launch.api.conftest import Site
from tests.launch.build import needs, plan, role


def submission(name: str = "x", *roles: object, **more: object) -> Submission:
    return Submission(name=name, plan=plan(*roles), **more)  # type: ignore[arg-type]


def test_a_run_from_submission_to_its_end(site: Site) -> None:
    client, agent = site.client(), site.join()
    run = client.submit(submission(job="run: true\n", tags={"a": "b"}, key="k"))
    assert client.submit(submission(key="k")).id == run.id
    assert (run.state, run.job, run.tags, run.user) == (RunState.QUEUED, "run: true\n", {"a": "b"}, "ada")
    order = agent.order()
    agent.say(order, TaskState.RUNNING)
    assert client.run("x").state is RunState.RUNNING
    agent.say(order, TaskState.SUCCEEDED, exit_code=0)
    seen = list(client.follow(run.id))
    assert seen[-1].state is RunState.SUCCEEDED
    assert [task.state for task in client.tasks(run.id)] == [TaskState.SUCCEEDED]
    kinds = [event.kind for event in client.run_events(run.id).events]
    assert kinds[0] == "run.queued"
    assert kinds[-1] == "run.succeeded"
    again = client.restart(run.id)
    assert again.id != run.id


def test_pages_of_runs_and_filters(site: Site) -> None:
    client = site.client()
    ids = [client.submit(submission(f"job{number}")).id for number in range(5)]
    first = client.page(limit=2)
    second = client.page(limit=2, cursor=first.next)
    third = client.page(limit=2, cursor=second.next)
    assert [run.id for page in (first, second, third) for run in page.runs] == ids[::-1]
    assert third.next == ""
    client.stop(ids[0])
    site.settle()
    assert [run.id for run in client.page(state="stopped").runs] == ids[:1]
    assert [run.id for run in client.page(name="job3").runs] == [ids[3]]
    assert client.page(kind="train").runs == ()


def test_a_plan_is_answered_and_nothing_started(site: Site) -> None:
    client = site.client()
    refused = client.plan(submission())
    assert not refused.fits
    assert "nexus agent join" in refused.reason
    agent = site.join()
    assert [one.node for one in client.plan(submission()).assignments] == [agent.node]
    big = client.plan(submission("x", role(needs=needs(cpu=64))))
    assert [one.reason for one in big.rejections] == ["needs 64 cpu; has 4"]
    assert client.page().runs == ()


def test_stop_and_scale(site: Site) -> None:
    client, agent = site.client(), site.join()
    run = client.submit(submission("x", role("replica", on_exit=OnExit.RESTART)))
    assert client.scale(run.id, "replica", 3).scale == {"replica": 3}
    site.settle()
    assert len(agent.sync().orders) == 3
    assert client.stop(run.id).wanted == "stop"
    site.settle()
    assert {order.wanted for order in agent.sync().orders} == {"stop"}
    with pytest.raises(ConflictError):
        client.scale(run.id, "replica", 1)


def test_nodes(site: Site) -> None:
    client, agent = site.client(), site.join()
    client.submit(submission("x", role(needs=needs(cpu=3))))
    order = agent.order()
    (use,) = client.nodes()
    assert (use.node.name, use.tasks, use.cpu) == ("a", 1, 3.0)
    assert client.drain("a").state is NodeState.DRAINING
    with pytest.raises(ConflictError) as busy:
        client.remove("a")
    assert "drain" in busy.value.hint
    agent.say(order, TaskState.SUCCEEDED, exit_code=0)
    client.remove("a")
    assert client.nodes() == []
    with pytest.raises(DeniedError):
        agent.sync()


def test_events_go_on_from_the_last(site: Site) -> None:
    client = site.client()
    client.submit(submission("one"))
    page = client.events()
    assert [event.kind for event in page.events] == ["token.created", "run.queued"]
    client.submit(submission("two"))
    assert [event.data["name"] for event in client.events(after=page.last).events] == ["two"]
    assert client.events(newest=True, limit=1).events[0].data["name"] == "two"


def test_who_may_do_what(site: Site) -> None:
    admin, viewer, stranger = site.client(), site.client(Role.VIEWER), site.client(project="other")
    run = admin.submit(submission())
    assert viewer.run(run.id).id == run.id
    for forbidden in (
        lambda: viewer.submit(submission()),
        lambda: viewer.stop(run.id),
        lambda: viewer.restart(run.id),
        lambda: viewer.remove("a"),
    ):
        with pytest.raises(ForbiddenError):
            forbidden()
    with pytest.raises(NotFoundError):
        stranger.run(run.id)
    assert stranger.page().runs == ()
    agent = site.join()
    with pytest.raises(ForbiddenError):
        agent.http.get("/v1/runs", object)
    with pytest.raises(ForbiddenError):
        admin.http.post("/v1/agent/sync", object, {})
    with pytest.raises(DeniedError):
        site.http("wrong").get("/v1/runs", object)
    with pytest.raises(DeniedError):
        site.http("wrong").post("/v1/agent/join", object, {"info": {"name": "a", "boot": "b", "capacity": {}}})


def test_a_join_token_works_once(site: Site) -> None:
    secret = site.call(site.access.join_token, _ada()).secret
    body = {"info": {"name": "a", "boot": "b", "capacity": {"cpu": 1}}}
    with pytest.raises(UsageError):
        site.http(secret).post("/v1/agent/join", object, {"info": {}})
    with pytest.raises(UsageError, match="protocol"):
        site.http(secret).post("/v1/agent/join", object, {**body, "protocol": 99})
    site.http(secret).post("/v1/agent/join", object, body)
    with pytest.raises(DeniedError):
        site.http(secret).post("/v1/agent/join", object, body)


def _ada() -> object:
    from nexus.kernel.identity import Principal, PrincipalKind

    return Principal(PrincipalKind.USER, "ada", "p", Role.ADMIN)


def test_bad_bodies_say_what_is_wrong(site: Site) -> None:
    client = site.client()
    with pytest.raises(UsageError, match="plan"):
        client.http.post("/v1/runs", object, {"name": "x"})
    with pytest.raises(UsageError, match="after"):
        client.events(after=2**63)
    asked = submission("x")
    with pytest.raises(UsageError, match="digest"):
        client.submit(replace(asked, plan=replace(asked.plan, workspace="../../agent/sync")))
    agent = site.join()
    with pytest.raises(UsageError, match="not a valid Report"):
        agent.http.post("/v1/agent/sync", object, {"tasks": "no"})
    with pytest.raises(NotFoundError):
        client.run("nobody")


def test_the_description_of_the_api_is_complete(site: Site) -> None:
    described = site.web.get("/openapi.json").json()
    for path, methods in described["paths"].items():
        for method, route in methods.items():
            assert route["summary"], (method, path)
            answers = [answer for code, answer in route["responses"].items() if code.startswith("2")]
            assert answers[0]["content"]["application/json"]["schema"], (method, path)
    assert {"Run", "Task", "RunPlan", "Placement", "NodeUse", "Desired"} <= set(described["components"]["schemas"])
