"""From answers to overrides: every type, every wrong answer by its field, and every shipped template."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nexus.kernel.errors import FileError, NotFoundError, UsageError
from nexus.launch.core.jobfile.reading import read_jobs
from nexus.launch.core.jobfile.tree import Fields, Items, Scalar, Tree, read_trees
from nexus.store.adapters.shelf import FolderShelf, examples
from nexus.store.core.answers import as_text, fill
from nexus.store.core.reading import read_template
from nexus.store.model import Parameter, ParameterType, Template
from nexus.store.service import answers
from nexus.store.templates import TEMPLATES

WHOLE = {"title": "T", "summary": "S"}


def template(**fields: Any) -> Template:
    given = {"name": "p", "title": "P", "path": "env.P", "type": ParameterType.TEXT, "default": "x"} | fields
    return Template(name="t", title="T", summary="", parameters=(Parameter(**given),), job="run: echo $P\n")


def test_defaults_leave_the_job_as_it_was_written() -> None:
    filled = fill(template(), {})
    assert filled.sets == ()
    assert filled.command == "nexus store launch t"


@pytest.mark.parametrize(
    ("type_", "default", "answer", "override"),
    [
        (ParameterType.TEXT, "x", "a: b # c", 'env.P="a: b # c"'),
        (ParameterType.TEXT, "x", "$(rm -rf /)", 'env.P="$(rm -rf /)"'),
        (ParameterType.INTEGER, 1, "12", "env.P=12"),
        (ParameterType.NUMBER, 0.5, "1e-3", "env.P=0.001"),
        (ParameterType.FLAG, False, "on", "env.P=true"),
    ],
)
def test_an_answer_becomes_one_override(type_: ParameterType, default: Any, answer: str, override: str) -> None:
    assert fill(template(type=type_, default=default), {"p": answer}).sets == (override,)


@settings(max_examples=50, deadline=None)
@given(st.text(st.characters(exclude_categories=["C", "Z"]), max_size=40))
def test_text_reaches_the_job_unchanged(text: str) -> None:
    source = template()
    filled = fill(source, {"p": text})
    spec = read_jobs(source.job, overrides=filled.sets)[0]
    assert spec.env.get("P", "x") == text.strip()


@pytest.mark.parametrize(
    ("fields", "answer", "says"),
    [
        ({"type": ParameterType.INTEGER, "default": 1}, "1.5", "whole number"),
        ({"type": ParameterType.INTEGER, "default": 1, "low": 1, "high": 9}, "10", "between 1 and 9"),
        ({"type": ParameterType.NUMBER, "default": 1.0}, "nan", "finite"),
        ({"type": ParameterType.CHOICE, "default": "a", "choices": ("a", "b")}, "c", "one of a, b"),
        ({"type": ParameterType.FLAG, "default": True}, "perhaps", "neither yes nor no"),
        ({"type": ParameterType.TEXT, "default": ""}, "two\nlines", "a line"),
    ],
)
def test_a_wrong_answer_is_named_by_its_field(fields: dict[str, Any], answer: str, says: str) -> None:
    with pytest.raises(UsageError) as caught:
        fill(template(**fields), {"p": answer})
    assert says in caught.value.details["fields"]["p"]


def test_an_unknown_parameter_has_a_suggestion() -> None:
    with pytest.raises(UsageError, match="did you mean p"):
        fill(template(), {"pp": "1"})


def test_the_command_is_safe_to_paste() -> None:
    assert fill(template(), {"p": "a'; ls"}).command == """nexus store launch t --set 'p=a'"'"'; ls'"""


def test_pairs_of_the_command_line() -> None:
    assert answers(("a=1", "b=x=y")) == {"a": "1", "b": "x=y"}
    with pytest.raises(UsageError, match="NAME=VALUE"):
        answers(("a",))


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ({"title": "T"}, "summary"),
        ({"title": "T", "summary": "S", "colour": "red"}, "colour"),
        (WHOLE | {"parameters": [{"name": "a", "type": "choice", "path": "x", "default": "q"}]}, "choices"),
        (WHOLE | {"parameters": [{"name": "a", "type": "integer", "path": "x", "default": "q"}]}, "default"),
    ],
)
def test_a_wrong_template_says_where(content: dict[str, Any], says: str) -> None:
    with pytest.raises(FileError, match=says):
        read_template("t", content, folder="", job="")


def test_an_unknown_template_has_a_suggestion() -> None:
    with pytest.raises(NotFoundError) as caught:
        FolderShelf().get("helo")
    assert "Did you mean hello?" in caught.value.hint


def at(tree: Tree, path: str) -> str | None:
    """What the job file itself says at a dotted path."""
    for step in path.split("."):
        if isinstance(tree, Items) or not isinstance(tree, Fields) or step not in tree.entries:
            return None
        tree = tree.entries[step]
    return tree.text if isinstance(tree, Scalar) else None


@pytest.mark.parametrize("name", TEMPLATES)
def test_every_template_is_whole(name: str) -> None:
    found = FolderShelf().get(name)
    assert found.title
    assert found.summary
    job = read_trees(found.job, found.file)[0]
    for one in found.parameters:
        said = at(job, one.path)
        assert said in {None, as_text(one.default)}, f"{one.name}: the form says {one.default}, the job file {said}"
        changed = fill(found, {one.name: as_text(one.default)})
        assert changed.sets == ()
    assert read_jobs(found.job, file=found.file, name=name)


@pytest.mark.parametrize("name", TEMPLATES)
def test_every_parameter_changes_the_job(name: str) -> None:
    found = FolderShelf().get(name)
    for one in found.parameters:
        other = {
            ParameterType.INTEGER: str(int(float(one.default)) + 1) if one.type is ParameterType.INTEGER else "",
            ParameterType.NUMBER: str(float(one.default) * 0.5 + 0.01) if one.type is ParameterType.NUMBER else "",
            ParameterType.CHOICE: next((c for c in one.choices if c != one.default), ""),
            ParameterType.FLAG: "false" if one.default else "true",
            ParameterType.TEXT: "another",
        }[one.type]
        filled = fill(found, {one.name: other})
        before = read_jobs(found.job, file=found.file, name=name)[0]
        after = read_jobs(found.job, file=found.file, name=name, overrides=filled.sets)[0]
        assert (before, before.sections) != (after, after.sections), one.name


def test_folders_and_lines_agree() -> None:
    folders = {path.parent.name for path in Path(examples()).glob("*/template.yaml")}
    assert folders == set(TEMPLATES)
