"""The command line's own manners: where `--json` may stand, how mistakes are told, and by which exit code."""

from __future__ import annotations

import json

import click
import pytest

from nexus.app.cli import TABLE, main, nexus
from nexus.infra.shell import Shell


def told(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as caught:
        main(list(words))
    out, err = capsys.readouterr()
    return int(caught.value.code or 0), out, err


@pytest.mark.parametrize(
    ("words", "said", "step"),
    [
        (["lunch"], "no such command 'lunch'. Did you mean 'launch'?", "nexus --help"),
        (["show"], "missing argument 'RUN'", "nexus show [OPTIONS] RUN"),
        (["runs", "--jsn"], "no such option '--jsn'. Did you mean '--json'?", "nexus runs --help"),
        (["token", "create"], "missing argument 'NAME'", "nexus token create [OPTIONS] NAME"),
        (["runs", "--limit", "0"], "invalid value for '-n' / '--limit'", "nexus runs --help"),
    ],
)
def test_wrong_words_are_told_as_every_error_is(
    words: list[str], said: str, step: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = told(capsys, *words)
    assert (code, out) == (2, "")
    first, second = err.splitlines()
    assert first.startswith(f"error: {said}")
    assert second == f"  → {step}"


def test_json_errors_are_what_the_api_would_answer(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = told(capsys, "job", "validate", "no-such-file.yaml", "--json")
    assert (code, out) == (4, "")
    error = json.loads(err)["error"]
    assert (error["code"], bool(error["hint"])) == ("not_found", True)


def test_a_commands_own_words_are_not_ours(capsys: pytest.CaptureFixture[str]) -> None:
    _, _, err = told(capsys, "launch", "--nope", "--", "echo", "--json")
    assert err.startswith("error: no such option")


def leaves(command: click.Command, path: tuple[str, ...]) -> list[tuple[tuple[str, ...], click.Command]]:
    if not isinstance(command, click.Group):
        return [(path, command)]
    context = click.Context(command)
    found: list[tuple[tuple[str, ...], click.Command]] = [(path, command)]
    for name in command.list_commands(context):
        child = command.get_command(context, name)
        assert child is not None
        found += leaves(child, (*path, name))
    return found


@pytest.mark.parametrize("name", TABLE)
def test_json_may_stand_behind_every_command(name: str) -> None:
    root = click.Context(nexus)
    found = nexus.get_command(root, name)
    assert found is not None
    for path, command in leaves(found, (name,)):
        switches = [option for parameter in command.params for option in parameter.opts if option == "--json"]
        assert switches == ["--json"], path


def test_json_behind_a_command_reaches_its_shell() -> None:
    shell = Shell(connect=lambda: pytest.fail("no server is needed"))
    group = nexus.get_command(click.Context(nexus), "job")
    assert group is not None
    group.main(["schema", "--json"], obj=shell, standalone_mode=False)
    assert shell.json
