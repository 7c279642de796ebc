"""`nexus job`: job files, without running anything."""

from __future__ import annotations

from pathlib import Path

import click

from nexus.infra.shell import Shell


@click.group()
def command() -> None:
    """Check, convert and describe job files."""


@command.command("validate")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--set", "overrides", multiple=True, metavar="PATH=VALUE", help="Override a field of the job file.")
@click.pass_obj
def validate(shell: Shell, file: Path, overrides: tuple[str, ...]) -> None:
    """Say whether FILE is right; else everything that is wrong, with line, column and a suggestion."""
    from nexus.kernel.errors import FileError
    from nexus.launch.faces.jobfiles import read_file

    try:
        jobs = read_file(file, overrides)
    except FileError as error:
        _say_problems(shell, error)
        raise
    for spec in jobs.specs:
        for warning in spec.warnings:
            shell.note(f"warning: {warning}")
        shell.say(f"{spec.name}: a {spec.kind} job, valid")
    if shell.json:
        shell.emit([{"name": spec.name, "kind": spec.kind, "warnings": spec.warnings} for spec in jobs.specs])


def _say_problems(shell: Shell, error: Exception) -> None:
    """All but the first, which is said as the error itself."""
    from nexus.kernel.errors import FileError

    problems = error.details.get("problems", []) if isinstance(error, FileError) else []
    if shell.json:
        shell.emit({"problems": problems})
        return
    for problem in problems[1:]:
        where = ":".join(str(problem[key]) for key in ("file", "line", "column") if problem[key])
        hint = f"  → {problem['hint']}" if problem["hint"] else ""
        shell.note(f"also:  {where}: {problem['message']}{hint}")


@command.command("convert")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--set", "overrides", multiple=True, metavar="PATH=VALUE", help="Override a field of the job file.")
@click.pass_obj
def convert(shell: Shell, file: Path, overrides: tuple[str, ...]) -> None:
    """Print FILE, of any dialect, in the native form."""
    from nexus.launch.core.jobfile.convert import native_fields, to_native
    from nexus.launch.faces.jobfiles import read_file

    jobs = read_file(file, overrides)
    for spec in jobs.specs:
        for warning in spec.warnings:
            shell.note(f"warning: {warning}")
    if shell.json:
        fields = [native_fields(spec) for spec in jobs.specs]
        shell.emit(fields[0] if len(fields) == 1 else fields)
        return
    click.echo("---\n".join(to_native(spec) for spec in jobs.specs), nl=False)


@command.command("schema")
@click.pass_obj
def schema(shell: Shell) -> None:
    """Print the JSON Schema of job files, for editors."""
    from nexus.launch.core.jobfile.schema import job_schema

    shell.emit(job_schema())
