"""From a deployment to a revision, and what makes two revisions the same."""

from __future__ import annotations

from dataclasses import replace

from nexus.deploy.model import MODEL_INPUT, REPLICA, Deployment, Revision
from nexus.kernel.errors import UsageError
from nexus.kernel.ids import is_name, to_name
from nexus.launch.model import RunPlan

__all__ = ["REPLICA", "checked_name", "model_of", "revision", "same", "with_count"]


def checked_name(name: str) -> str:
    """The name, if an endpoint may have it. Raises UsageError."""
    if not is_name(name):
        raise UsageError(f"{name!r} cannot name an endpoint", hint=f"Try {to_name(name)}: lower case, digits, . _ -")
    return name


def model_of(plan: RunPlan | None) -> str:
    """The model that a plan fetches for its replicas, or nothing."""
    return plan.inputs.get(MODEL_INPUT, "") if plan else ""


def revision(deployment: Deployment, serving: Revision | None, plan: RunPlan, model: str, now: float) -> Revision:
    """What the deployment asks for. Raises UsageError for a plan without the role `replica`."""
    if REPLICA not in {role.name for role in plan.roles}:
        raise UsageError("a deployment needs a role called replica", hint="Write `kind: deploy` in the job file.")
    if model.startswith("model://"):
        plan = replace(plan, inputs={**plan.inputs, MODEL_INPUT: model})
    bare = deployment.plan is None and serving is not None
    return Revision(
        number=1,
        plan=plan,
        model=model,
        engine=serving.engine if bare and serving else deployment.engine,
        began=now,
        moved=now,
        pure=serving.pure if bare and serving else deployment.pure,
        limits=serving.limits if bare and serving else deployment.limits,
        example=serving.example if bare and serving else deployment.example,
        job=deployment.job or (serving.job if bare and serving else ""),
    )


def same(old: Revision, new: Revision) -> bool:
    """Whether they serve the same in the same way; how many replicas there are does not matter."""
    return _essence(old) == _essence(new)


def _essence(revision: Revision) -> tuple[object, ...]:
    plan = with_count(revision.plan, 1)
    return (plan, revision.model, revision.engine, revision.pure, revision.limits, revision.example)


def with_count(plan: RunPlan, count: int) -> RunPlan:
    """The plan with that many replicas."""
    roles = tuple(replace(role, count=count) if role.name == REPLICA else role for role in plan.roles)
    return replace(plan, roles=roles)
