"""`nexus tune`: fine-tune a language model as a run, and register, deploy and chat with it."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from nexus.infra.package import WORKSPACE_LIMIT_B, Package, pack
from nexus.infra.shell import Shell
from nexus.kernel.errors import JobError, NotFoundError, UsageError
from nexus.launch.core.compile import compile_job
from nexus.launch.core.jobfile.reading import read_jobs
from nexus.launch.faces.client import LaunchClient
from nexus.launch.model import Run, RunState, Submission
from nexus.track.faces.client import TrackClient
from nexus.track.faces.commands.logs import Printer
from nexus.train.core.catalog import DATA, MODELS
from nexus.train.core.tunejob import tune_job
from nexus.train.options import TuneRequest, request_of, tune_options


@click.command()
@tune_options
@click.option("--cpus", type=click.IntRange(1, 256), default=1, show_default=True, help="Processor threads.")
@click.option("--gpu", default="", metavar="NAME", help="Use one accelerator: any, A100, ...")
@click.option("--fresh", is_flag=True, help="Install what it needs first, for machines whose agent has no [llm] extra.")
@click.option("--print", "show", is_flag=True, help="Print the job file, and start nothing.")
@click.option("-d", "--detach", is_flag=True, help="Do not wait for the run.")
@click.option("--deploy", is_flag=True, help="Put the new model behind an endpoint of its name.")
@click.option("--chat", is_flag=True, help="Deploy it, and open a chat page.")
@click.pass_context
def command(
    ctx: click.Context,
    /,
    cpus: int,
    gpu: str,
    fresh: bool,
    show: bool,
    detach: bool,
    deploy: bool,
    chat: bool,
    **values: Any,
) -> None:
    """Fine-tune a small language model on instructions with LoRA; the result is a version in the model registry.

    \b
    nexus tune --data alpaca-demo --name my-assistant --chat
    nexus tune --data support.jsonl --name support --steps 200 --deploy
    """  # noqa: D301 (click's own sign for a paragraph that stays as it is)
    shell: Shell = ctx.obj
    request = request_of(**values)
    files = _travelling(request)
    sent = replace(request, model=_sent(request.model, files), data=_sent(request.data, files))
    every = request.settings.checkpoint_every
    text = tune_job(
        request.name, sent.argv(), model=request.model, cpus=cpus, gpu=gpu, checkpoint_every=every, fresh=fresh
    )
    if show:
        shell.say(text.rstrip())
        return
    run = _submit(shell, text, files)
    if detach:
        _emit(shell, run, f"{run.id} is submitted. Follow it: nexus logs -f {run.id}")
        return
    _follow(shell, run)
    _finish(ctx, shell, run, request, deploy=deploy or chat, chat=chat)


def _travelling(request: TuneRequest) -> list[Path]:
    """What must be sent. Raises NotFoundError, UsageError for two of the same name."""
    files = [path for path in (_local(request.model, MODELS), _local(request.data, DATA)) if path is not None]
    if len({path.name for path in files}) < len(files):
        raise UsageError(f"the model and the data are both called {files[0].name}", hint="Rename one of them.")
    return files


def _local(name: str, known: dict[str, Any]) -> Path | None:
    """The file or folder that must be sent; None for what the machine finds by name. Raises NotFoundError."""
    if name in known:
        return None
    path = Path(name)
    if not path.exists():
        raise NotFoundError(f"there is no {name!r}", hint=f"Use {', '.join(known)}, or a file that is here.")
    return path


def _sent(name: str, files: list[Path]) -> str:
    return next((file.name for file in files if str(file) == str(Path(name))), name)


def _submit(shell: Shell, text: str, files: list[Path]) -> Run:
    (spec,) = read_jobs(text, file="the job of nexus tune")
    if not files:
        plan = compile_job(spec)
    else:
        with tempfile.TemporaryDirectory() as scratch:
            packed = _pack(Path(scratch), files)
            TrackClient(shell.http).upload_blob(Path(scratch) / "workspace.zip")
        plan = compile_job(spec, workspace=packed.digest, workspace_b=packed.size_b, files=packed.files)
    return LaunchClient(shell.http).submit(Submission(name=spec.name, plan=plan, job=text))


def _pack(scratch: Path, files: list[Path]) -> Package:
    """Only the model and the data travel, not the folder they lie in."""
    folder = scratch / "files"
    folder.mkdir()
    for file in files:
        if file.is_dir():
            shutil.copytree(file, folder / file.name)
        else:
            shutil.copyfile(file, folder / file.name)
    return pack(folder, scratch / "workspace.zip", limit_b=WORKSPACE_LIMIT_B)


def _follow(shell: Shell, run: Run) -> None:
    """The run's log until it is over. Raises JobError if it did not succeed."""
    shell.note(f"{run.id}: leave with Ctrl-C, the run goes on; come back with: nexus logs -f {run.id}")
    printer = Printer(colour=shell.has_colour, times=False)
    for line in TrackClient(shell.http).follow(run.id):
        if not shell.json:
            printer.print(line)
    *_, over = LaunchClient(shell.http).follow(run.id)
    if over.state is not RunState.SUCCEEDED:
        raise JobError(
            f"the run {over.id} {over.state}: {over.reason or over.cause}", hint=f"Its log: nexus logs {over.id}"
        )


def _finish(ctx: click.Context, shell: Shell, run: Run, request: TuneRequest, *, deploy: bool, chat: bool) -> None:
    version = TrackClient(shell.http).version(request.name)
    before, after = version.meta.get("eval_loss_before", "?"), version.meta.get("eval_loss_after", "?")
    model = f"{request.name}@{version.number}"
    _emit(shell, version, f"model://{model} is registered: held-out loss {before} -> {after}")
    serve = ("--model", model, "--engine", "llama")
    if deploy:
        _then(ctx, "deploy", *serve)
    if chat:
        _then(ctx, "chat", request.name)
    if not deploy:
        shell.say(f"Serve it:      nexus deploy {' '.join(serve)}")
        shell.say(f"Chat with it:  nexus chat {request.name}")
        shell.say(f"Its numbers:   nexus metrics {run.id}")


def _emit(shell: Shell, value: Any, text: str) -> None:
    if shell.json:
        shell.emit(value)
    else:
        shell.say(text)


def _then(ctx: click.Context, name: str, *words: str) -> None:
    """Another command of the same command line, as if it had been typed: Train does not know Deploy."""
    root = ctx.find_root()
    group = root.command
    found = group.get_command(root, name) if isinstance(group, click.Group) else None
    if found is None:
        raise NotFoundError(
            f"this command line has no {name}", hint=f"Type it yourself: nexus {name} {' '.join(words)}"
        )
    with found.make_context(name, list(words), parent=root) as inner:
        found.invoke(inner)
