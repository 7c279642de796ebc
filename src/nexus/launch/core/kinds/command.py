"""`kind: command`: run this, on as many machines as asked."""

from __future__ import annotations

from nexus.launch.core.jobkind import JobKind
from nexus.launch.core.roles import need_command, role_plan, run_plan
from nexus.launch.core.spec import JobSpec, Section
from nexus.launch.model import RunPlan


class CommandSection(Section):
    """A command needs nothing beside what every job has."""


class Command:
    """One role; on several nodes a gang."""

    section = CommandSection

    def compile(self, spec: JobSpec, section: CommandSection) -> RunPlan:
        """Raises UsageError without a command."""
        need_command(spec)
        return run_plan(spec, (role_plan(spec, "main", count=spec.nodes, gang=spec.nodes > 1),))


JOB_KIND: JobKind[CommandSection] = Command()
