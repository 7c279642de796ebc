"""Runs of `kind: deploy` that were launched like any other job become revisions of the endpoint that they name."""

from __future__ import annotations

from nexus.deploy.core.engines import ENGINES
from nexus.deploy.core.plans import model_of
from nexus.deploy.model import REPLICA, Limits, Revision
from nexus.launch.model import Run

KIND = "deploy"
ENDPOINT_VARIABLE = "NEXUS_ENDPOINT"
ENGINE_VARIABLE = "NEXUS_ENGINE"


def endpoint_of(run: Run) -> str:
    """The endpoint that a launched run is for; nothing for one that Deploy itself submitted, or that names none."""
    if run.kind != KIND or "endpoint" in run.tags:
        return ""
    return next((role.env.get(ENDPOINT_VARIABLE, "") for role in run.plan.roles if role.name == REPLICA), "")


def adopted(run: Run, number: int, now: float) -> Revision:
    """The run, as it is, as a revision on its way up."""
    role = run.plan.role(REPLICA)
    name = role.env.get(ENGINE_VARIABLE, "command")
    engine = ENGINES.get(name, ENGINES["command"])
    return Revision(
        number=number,
        plan=run.plan,
        model=model_of(run.plan),
        engine=name,
        began=now,
        moved=now,
        limits=Limits(inflight=engine.inflight, timeout_s=engine.timeout_s),
        job=run.job,
        run=run.id,
        count=run.count(role),
        open=run.count(role),
    )
