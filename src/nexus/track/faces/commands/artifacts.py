"""`nexus artifacts`: what runs leave behind."""

from __future__ import annotations

import time
from pathlib import Path, PurePosixPath

import click

from nexus.infra.package import unpack
from nexus.infra.shell import Shell
from nexus.kernel.errors import UsageError
from nexus.kernel.units import format_bytes
from nexus.track.faces.client import TrackClient
from nexus.track.model import Artifact


@click.group()
def command() -> None:
    """List what a run left behind, and bring it here."""


@command.command("list")
@click.argument("run")
@click.pass_obj
def list_(shell: Shell, run: str) -> None:
    """List the artifacts of RUN."""
    artifacts = TrackClient(shell.http).artifacts(run)
    if shell.json:
        shell.emit(artifacts)
        return
    rows = [
        (
            artifact.name,
            str(artifact.kind),
            format_bytes(artifact.size_b) + (" packed" if artifact.packed else ""),
            time.strftime("%Y-%m-%d %H:%M", time.gmtime(artifact.created)),
            artifact.digest[:12],
        )
        for artifact in artifacts
    ]
    shell.table(("NAME", "KIND", "SIZE", "CREATED (UTC)", "SHA-256"), rows, empty="This run has kept nothing.")


@command.command("get")
@click.argument("run")
@click.argument("name")
@click.option("-o", "--output", type=click.Path(path_type=Path, file_okay=False), default=Path(), help="The folder.")
@click.pass_obj
def get(shell: Shell, run: str, name: str, output: Path) -> None:
    """Bring the artifact NAME of RUN into a folder. A folder comes as a folder; nothing that exists is overwritten."""
    client = TrackClient(shell.http)
    artifact = client.artifact(run, name)
    target = fetch(client, artifact, output, shell)
    if shell.json:
        shell.emit({"path": str(target), "artifact": artifact})
    shell.say(str(target))


def fetch(client: TrackClient, artifact: Artifact, output: Path, shell: Shell) -> Path:
    """Download, check the digest, and unpack what is a folder. Raises UsageError if something is in the way."""
    target = output / _file_name(artifact)
    if target.exists() or target.is_symlink():
        raise UsageError(f"{target} exists already", hint="Choose another folder with -o DIR.")
    output.mkdir(parents=True, exist_ok=True)
    progress = _Progress(shell, target.name) if shell.is_tty and not shell.json else None
    if not artifact.packed:
        return client.download(artifact.digest, target, progress=progress)
    package = client.download(artifact.digest, output / f".{target.name}.package", progress=progress)
    try:
        unpack(package, target)
    finally:
        package.unlink(missing_ok=True)
    return target


def _file_name(artifact: Artifact) -> str:
    """The last part of the name; a single file keeps the suffix of where it lay. Names come from jobs: no paths."""
    name = PurePosixPath(artifact.name).name
    suffix = PurePosixPath(artifact.path).suffix
    if not artifact.packed and suffix and not PurePosixPath(name).suffix:
        name += suffix
    if name in {"", ".", ".."} or "\\" in name or not name.isprintable():
        raise UsageError(f"the artifact {artifact.name!r} has no name that a file may have")
    return name


class _Progress:
    """One line on standard error, written again about five times a second."""

    def __init__(self, shell: Shell, name: str) -> None:
        self._shell = shell
        self._name = name
        self._last = 0.0

    def __call__(self, done: int, size: int) -> None:
        now = time.monotonic()
        if done < size and now - self._last < 0.2:
            return
        self._last = now
        share = f"{100 * done // size} %" if size else ""
        click.echo(f"\r{self._name}  {format_bytes(done)}  {share} ", err=True, nl=done >= size)
