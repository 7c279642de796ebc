"""`nexus launch`: a job file, or a command, on the cheapest machine that fits.

It stands in the house's own commands because it speaks of three slices: jobs (launch), their logs and blobs (track).
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from nexus.infra.shell import Shell

if TYPE_CHECKING:
    from nexus.infra.package import Package
    from nexus.launch.core.comparing import Comparison
    from nexus.launch.core.spec import JobSpec
    from nexus.launch.faces.client import LaunchClient
    from nexus.launch.faces.jobfiles import Jobs
    from nexus.launch.model import Run, Submission, Task


@click.command()
@click.argument("words", nargs=-1, metavar="[FILE | -- CMD...]")
@click.option("--plan", "only_plan", is_flag=True, help="Only show where it would run, and why not elsewhere.")
@click.option("--set", "overrides", multiple=True, metavar="PATH=VALUE", help="Override a field of the job file.")
@click.option("-e", "--env", multiple=True, metavar="NAME[=VALUE]", help="Set a variable; without a value, from here.")
@click.option("-n", "--name", help="What the run is called.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask about what costs money.")
@click.option("-f/-d", "--follow/--detach", default=None, help="Follow the log to the end.  [default: on a terminal]")
@click.option("--json", "as_json", is_flag=True, help="Print JSON for machines.")
@click.pass_obj
def command(
    shell: Shell,
    words: tuple[str, ...],
    only_plan: bool,
    overrides: tuple[str, ...],
    env: tuple[str, ...],
    name: str | None,
    yes: bool,
    follow: bool | None,
    as_json: bool,
) -> None:
    """Run a job FILE (or the job.yaml of a folder), or a command after --, on the cheapest machine that fits.

    With --follow the exit code is the job's. Ctrl-C lets go of the log, and the job goes on.
    """
    shell.json = shell.json or as_json
    jobs = _read(words, overrides, name, env)
    for spec in jobs.specs:
        for warning in spec.warnings:
            shell.note(f"warning: {warning}")
    if only_plan:
        _show_plans(shell, jobs)
        return
    runs = _submit(shell, jobs, ask=not yes)
    if follow if follow is not None else shell.is_tty and not shell.json:
        code = max(_follow(shell, run, alone=len(runs) == 1) for run in runs)
        if shell.json:
            _emit(shell, [_client(shell).run(run.id) for run in runs])
        sys.exit(code)
    _emit(shell, runs)
    for run in runs:
        shell.say(f"{run.name} is {run.state} as {run.id}.  Log: nexus logs -f {run.id}   Stop: nexus stop {run.id}")


def _read(words: tuple[str, ...], overrides: tuple[str, ...], name: str | None, env: tuple[str, ...]) -> Jobs:
    """One word that names a file or folder is a job file; anything else is a command."""
    from nexus.kernel.errors import UsageError
    from nexus.launch.faces.jobfiles import as_overrides, read_argv, read_file

    given = [*overrides, *as_overrides(name, env)]
    is_file = len(words) == 1 and (Path(words[0]).exists() or words[0].endswith((".yaml", ".yml")))
    jobs = read_file(Path(words[0]), given) if is_file else read_argv(words, given)
    for spec in jobs.specs:
        if spec.kind == "deploy":
            raise UsageError(f"{spec.name} is of kind deploy", hint="An endpoint is made with: nexus deploy FILE")
    return jobs


def _client(shell: Shell) -> LaunchClient:
    from nexus.launch.faces.client import LaunchClient

    return LaunchClient(shell.http)


def _emit(shell: Shell, runs: list[Run]) -> None:
    if shell.json:
        shell.emit(runs[0] if len(runs) == 1 else runs)


def _ready(shell: Shell, spec: JobSpec, jobs: Jobs, target: Path) -> tuple[Submission, Package | None]:
    """Packed and compiled."""
    from nexus.launch.faces.jobfiles import submission_of

    with shell.progress("Packing the workspace") as progress:
        return submission_of(spec, jobs, target, progress)


# --------------------------------------------------------------------------- the plan


def _show_plans(shell: Shell, jobs: Jobs) -> None:
    """Raises NoCapacityError, with every reason, when there is no place for one of them."""
    from nexus.kernel.errors import NoCapacityError

    shown = []
    with tempfile.TemporaryDirectory() as scratch:
        for spec in jobs.specs:
            submission, package = _ready(shell, spec, jobs, Path(scratch) / spec.name)
            compared = _compared(shell, submission, package, whole=True)
            placement = compared.placement
            shown.append(
                {
                    "name": spec.name,
                    "plan": submission.plan,
                    "placement": placement,
                    "alternatives": compared.alternatives,
                    "refused": compared.refused,
                    "offers": compared.offers,
                    "prices": compared.prices,
                }
            )
            if not placement.fits and compared.startable is None:
                reasons = sorted({rejection.reason for rejection in placement.rejections})
                hint = "`nexus nodes` shows what there is; ask for less, or join another machine."
                raise NoCapacityError(f"{spec.name} has no place: {placement.reason}", hint=hint, rejections=reasons)
    if shell.json:
        shell.emit(shown[0] if len(shown) == 1 else shown)


def _compared(shell: Shell, submission: Submission, package: Package | None, *, whole: bool = False) -> Comparison:
    """Where it would go now, were nothing to be waited for; said to people. Else: also where it could, by price."""
    from nexus.launch.faces.planview import compared_lines, plan_lines

    client = _client(shell)
    plan = replace(submission.plan, after=())
    compared = client.compare(replace(submission, plan=plan))
    nodes = {use.node.id: use.node for use in client.nodes()}
    if whole:
        lines = compared_lines(submission.name, plan, package, compared, nodes)
    elif compared.placement.fits:
        lines = plan_lines(submission.name, plan, package, compared.placement, nodes)
    else:
        lines = compared_lines(submission.name, plan, package, compared, nodes, limit=3)
    for line in lines:
        shell.say(line)
    return compared


# --------------------------------------------------------------------------- the run


def _submit(shell: Shell, jobs: Jobs, *, ask: bool) -> list[Run]:
    """Pack, show, ask, upload, hand in: each job after those that it waits for."""
    from nexus.launch.faces.jobfiles import waiting_for
    from nexus.track.faces.client import TrackClient

    ids: dict[str, str] = {}
    runs = []
    with tempfile.TemporaryDirectory() as scratch:
        for spec in jobs.specs:
            target = Path(scratch) / spec.name
            submission, package = _ready(shell, spec, jobs, target)
            compared = _compared(shell, submission, package)
            if ask:
                _ask(shell, compared)
            if package is not None:
                with shell.progress("Sending the workspace") as progress:
                    TrackClient(shell.http).upload_blob(target, progress=progress)
            run = _client(shell).submit(waiting_for(submission, ids))
            ids[spec.name] = run.id
            runs.append(run)
    return runs


def _ask(shell: Shell, compared: Comparison) -> None:
    """A person is asked about what costs money, or has to wait; a script must say --yes to what costs money."""
    from nexus.kernel.errors import UsageError

    placement, starts = compared.placement, compared.startable
    price = placement.price if placement.fits else starts.price if starts is not None else 0.0
    if shell.is_tty and sys.stdin.isatty():
        if price:
            click.confirm(f"This costs {price:.2f} per hour. Launch?", default=True, abort=True, err=True)
        elif not placement.fits and starts is None:
            click.confirm("No machine fits now. Launch, and wait for one?", default=True, abort=True, err=True)
    elif price:
        raise UsageError(f"this costs {price:.2f} per hour, and nobody is here to ask", hint="Add --yes.")


def _follow(shell: Shell, run: Run, *, alone: bool) -> int:
    """Its log to the end; returns its exit code."""
    from nexus.app.preparing import shown_preparing
    from nexus.track.faces.client import TrackClient
    from nexus.track.faces.commands.logs import Printer

    client = _client(shell)
    if not alone:
        shell.note(f"--- {run.name}")
    try:
        _wait_for_machine(shell, client, run)
        printer = Printer(colour=shell.has_colour, times=False)
        with shown_preparing(shell, client, run):
            for line in TrackClient(shell.http).follow(run.id):
                if not shell.json:
                    printer.print(line)
        final = _last(client, run)
    except KeyboardInterrupt:
        shell.note(f"\n{run.name} goes on.  Follow: nexus logs -f {run.id}   Stop: nexus stop {run.id}")
        return 130
    shell.note(_ending(final))
    return exit_code(final, client.tasks(final.id))


def _wait_for_machine(shell: Shell, client: LaunchClient, run: Run) -> None:
    """Says why it waits, whenever that changes, until it does not."""
    from nexus.launch.model import RunState

    said = ""
    for now in client.follow(run.id):
        if now.state is not RunState.QUEUED:
            return
        if now.reason and now.reason != said:
            said = now.reason
            shell.note(f"{now.name} waits: {said}")
            for rejection in now.rejections:
                shell.note(f"  {rejection}")


def _last(client: LaunchClient, run: Run) -> Run:
    *_, final = client.follow(run.id)
    return final


def _ending(run: Run) -> str:
    from nexus.kernel.units import format_seconds

    took = format_seconds(run.ended - run.started) if run.ended is not None and run.started is not None else ""
    parts = [f"{run.name} {run.state}", f"in {took}" if took else "", f"({run.reason})" if run.reason else ""]
    more = "" if run.state == "succeeded" else f"  Why: nexus why {run.id}"
    return " ".join(part for part in parts if part) + more


def exit_code(run: Run, tasks: Sequence[Task]) -> int:
    """What a shell should see of a run that is over: the job's own code; 128 + n for a signal; 130 when stopped."""
    from nexus.launch.model import Cause, RunState

    if run.state is RunState.SUCCEEDED:
        return 0
    if run.state is RunState.STOPPED:
        return 130
    signals = [task.signal for task in tasks if task.run_attempt == run.attempt and task.signal]
    if run.cause is Cause.SIGNAL and signals:
        return 128 + signals[0]
    return run.exit_code if run.exit_code and 0 < run.exit_code < 256 else 1
