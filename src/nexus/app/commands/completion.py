"""`nexus completion`: what a shell needs to complete commands, options, and the names of runs and nodes."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from nexus.infra.shell import Shell

_HOW = {
    "bash": "echo 'eval \"$(nexus completion bash)\"' >> ~/.bashrc",
    "zsh": "echo 'eval \"$(nexus completion zsh)\"' >> ~/.zshrc",
    "fish": "nexus completion fish > ~/.config/fish/completions/nexus.fish",
}


@click.command(epilog="\b\nOnce and for all:\n" + "\n".join(f"  {line}" for line in _HOW.values()))
@click.argument("shell_name", metavar="bash|zsh|fish", type=click.Choice(list(_HOW)))
@click.pass_context
def command(ctx: click.Context, shell_name: str) -> None:
    """Print the script by which a shell completes `nexus`."""
    kind = get_completion_class(shell_name)
    assert kind is not None  # noqa: S101 (click has these three)
    script = kind(ctx.find_root().command, {}, "nexus", "_NEXUS_COMPLETE").source()
    shell: Shell = ctx.obj
    if shell.json:
        shell.emit({"shell": shell_name, "script": script, "install": _HOW[shell_name]})
    shell.say(script)
