"""`nexus deploy`: a model behind a URL."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from nexus.infra.shell import Shell


@click.command()
@click.argument("file", required=False, type=click.Path(path_type=Path))
@click.option("--model", metavar="NAME@VERSION", help="The model: digits@2, digits (its newest), bundled://smollm2.")
@click.option("--name", help="The endpoint.  [default: the job's name, or the model's]")
@click.option("--replicas", type=click.IntRange(1, 1000), help="How many serve at once.")
@click.option("--engine", type=click.Choice(["predictor", "llama"]), help="What serves, without a FILE.")
@click.option("--predictor", metavar="MODULE:CLASS", help="For the engine predictor: the class, in --workspace.")
@click.option("--workspace", type=click.Path(file_okay=False, exists=True, path_type=Path), help="The code's folder.")
@click.option("--set", "overrides", multiple=True, metavar="PATH=VALUE", help="Override a field of FILE.")
@click.option("-d", "--detach", is_flag=True, help="Return at once.")
@click.pass_obj
def command(
    shell: Shell,
    file: Path | None,
    model: str | None,
    name: str | None,
    replicas: int | None,
    engine: str | None,
    predictor: str | None,
    workspace: Path | None,
    overrides: tuple[str, ...],
    detach: bool,
) -> None:
    """Deploy what FILE describes, or --model.

    A name that is there already gets a new revision, which takes over replica by replica without a lost request; one
    that never becomes ready is rolled back. With --model or --replicas alone, an endpoint keeps everything else.
    """
    from nexus.deploy.faces import jobs, words
    from nexus.deploy.faces.client import DeployClient
    from nexus.deploy.model import Deployment
    from nexus.kernel.errors import UsageError

    given: dict[str, Any] = {"model": jobs.reference(model or ""), "replicas": replicas, "predictor": predictor}
    if file is not None:
        words_of = {f"deploy.{key}={value}" for key, value in {**given, "endpoint": name}.items() if value}
        deployment = jobs.from_file(shell.http, file, [*overrides, *sorted(words_of)])
    else:
        name = name or (model or "").rpartition("://")[2].partition("@")[0]
        if not name:
            raise UsageError("nothing to deploy", hint="nexus deploy FILE, or: nexus deploy --model digits@2")
        if engine or predictor:
            section = {key: value for key, value in given.items() if value}
            deployment = jobs.from_words(shell.http, name, workspace, engine=engine or "predictor", **section)
        else:
            deployment = Deployment(name=name, model=given["model"], replicas=replicas)
    client = DeployClient(shell.http)
    view = client.deploy(deployment)
    if not detach:
        view = words.watch(shell, client.follow(view.name)) or view
    if shell.json:
        shell.emit(view)
        return
    shell.say(f"{view.name} is {view.state} at {view.url}")
    shell.say(f"Try it:  {words.try_it(view)}")
    if not view.openai:
        shell.say(f"or:      {words.curl(view)}")
