"""Completion: a real shell asks, and the server's own names come back."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import click
import pytest

from nexus.app.cli import COMMANDS, TABLE, with_completion
from nexus.app.completing import ASKED, complete
from tests.ports import free_port

BIN = Path(sys.executable).parent


def ask(words: list[str], **environ: str) -> list[str]:
    """What bash would offer for the last word, by the script that it was given."""
    script = f"""
        eval "$(nexus completion bash)"
        COMP_WORDS=({" ".join(words)!s}); COMP_CWORD={len(words) - 1}
        [ {len(words[-1])} -gt 0 ] || COMP_WORDS+=("")
        _nexus_completion nexus; printf '%s\\n' "${{COMPREPLY[@]}}"
    """
    env = os.environ | {"PATH": f"{BIN}:{os.environ['PATH']}"} | environ
    done = subprocess.run(["bash", "-c", script], env=env, capture_output=True, text=True, check=True, timeout=60)
    return done.stdout.split()


@pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not here")
def test_bash_is_offered_commands_and_options(tmp_path: Path) -> None:
    environ = {"NEXUS_HOME": str(tmp_path), "NEXUS_PORT": str(free_port())}
    assert ask(["nexus", "lo"], **environ) == ["logs", "login"]
    assert "--follow" in ask(["nexus", "logs", "--f"], **environ)


def test_names_are_not_asked_of_a_server_that_is_down(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NEXUS_HOME", str(tmp_path))
    assert not any(complete(kind, "") for kind in ASKED)
    assert not list(tmp_path.iterdir())
    assert "digits" in {item.value for item in complete("store name", "")}


@pytest.mark.parametrize("name", TABLE)
def test_every_argument_that_names_a_run_or_node_is_completed(name: str) -> None:
    def arguments(command: click.Command) -> list[click.Parameter]:
        if isinstance(command, click.Group):
            return [one for child in command.commands.values() for one in arguments(child)]
        return [one for one in command.params if isinstance(one, click.Argument)]

    for argument in arguments(with_completion(name, COMMANDS.get(name))):
        if argument.name in {"run", "runs", "node"}:
            assert argument._custom_shell_complete is not None
