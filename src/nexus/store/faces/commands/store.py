"""`nexus store`: templates, and how to launch them."""

from __future__ import annotations

import click

from nexus.infra.shell import Shell


@click.group()
def command() -> None:
    """Look at the Job Store's templates and launch them."""


@command.command("list")
@click.pass_obj
def list_templates(shell: Shell) -> None:
    """List the templates."""
    from nexus.store.faces.client import StoreClient

    found = StoreClient(shell.http).list()
    if shell.json:
        shell.emit(found)
        return
    shell.table(("NAME", "WHAT IT DOES"), [(one.name, one.title) for one in found], empty="No templates.")
    shell.say()
    shell.say("Launch one: nexus store launch NAME --set parameter=value")


@command.command()
@click.argument("name")
@click.pass_obj
def show(shell: Shell, name: str) -> None:
    """Show the template NAME with its parameters and its job file."""
    from nexus.store.core.answers import as_text
    from nexus.store.faces.client import StoreClient

    found = StoreClient(shell.http).show(name)
    if shell.json:
        shell.emit(found)
        return
    shell.say(f"{found.title}\n{found.summary}\n")
    rows = [
        (one.name, as_text(one.default), ", ".join(one.choices) or str(one.type), one.help) for one in found.parameters
    ]
    shell.table(("PARAMETER", "DEFAULT", "TAKES", "WHAT FOR"), rows, empty="No parameters.")
    shell.say(f"\n{found.job.rstrip()}")


@command.command()
@click.argument("name")
@click.option("--set", "pairs", multiple=True, metavar="PARAMETER=VALUE", help="Answer a parameter; may come again.")
@click.option("--plan", "only_plan", is_flag=True, help="Show the job and where it would run; launch nothing.")
@click.pass_obj
def launch(shell: Shell, name: str, pairs: tuple[str, ...], only_plan: bool) -> None:
    """Launch the template NAME."""
    from nexus.store.faces.client import StoreClient
    from nexus.store.service import answers

    client = StoreClient(shell.http)
    if only_plan:
        preview = client.preview(name, answers(pairs))
        if shell.json:
            shell.emit(preview)
            return
        shell.say(f"{preview.job.rstrip()}\n\n{'Would run on' if preview.fits else 'Would wait:'} {preview.place}")
        for reason in preview.rejections:
            shell.say(f"  not {reason}")
        return
    made = client.launch(name, answers(pairs))
    if shell.json:
        shell.emit(made)
        return
    shell.say(made.id)
    follow = f"nexus logs -f {made.name}" if made.kind == "run" else f"nexus endpoints show {made.name}"
    shell.note(f"Follow it: {follow}")
