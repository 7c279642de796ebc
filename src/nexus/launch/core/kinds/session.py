"""`kind: session`: something a person works in, such as a notebook; it listens on a port until stopped, or idle."""

from __future__ import annotations

from nexus.launch.core.jobkind import JobKind
from nexus.launch.core.roles import need_command, role_plan, run_plan
from nexus.launch.core.spec import JobSpec, Section
from nexus.launch.model import OnExit, Port, RunPlan

IDLE_STOP_S = 3600.0  # people forget what they left open


class SessionSection(Section):
    """A session needs nothing beside what every job has."""


class Session:
    """One role `session` on one machine, with a port."""

    section = SessionSection

    def compile(self, spec: JobSpec, section: SessionSection) -> RunPlan:
        """Raises UsageError without a command."""
        need_command(spec)
        role = role_plan(spec, "session", on_exit=OnExit.ANY)
        if not role.ports:
            role = role_plan(spec, "session", on_exit=OnExit.ANY, ports=(Port("http"),))
        return run_plan(spec, (role,), idle_stop_s=IDLE_STOP_S if spec.idle_stop is None else spec.idle_stop or None)


JOB_KIND: JobKind[SessionSection] = Session()
