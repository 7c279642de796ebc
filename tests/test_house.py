"""House rules that no linter knows."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

SOURCE = Path(__file__).parent.parent / "src" / "nexus"
FILES = sorted(path for path in SOURCE.rglob("*.py") if "versions" not in path.parts)  # migrations are lists
FUNCTION_LINES, FILE_LINES = 70, 600
NO_ROOM_FOR = {"utils", "util", "common", "helpers", "helper", "manager", "managers", "base", "misc"}


def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


def test_there_are_files_to_check() -> None:
    assert len(FILES) > 50


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_a_file_holds_one_idea_and_functions_fit_a_screen(path: Path) -> None:
    assert path.stem not in NO_ROOM_FOR, "name the file after what it holds"
    assert len(path.read_text().splitlines()) <= FILE_LINES, f"more than {FILE_LINES} lines: two ideas?"
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            nested = any(
                isinstance(inner, ast.FunctionDef | ast.AsyncFunctionDef)
                for inner in ast.walk(node)
                if inner is not node
            )
            # A router is a list of small routes: its length is their number.
            assert length <= FUNCTION_LINES or (nested and node.name == "router"), f"{node.name} has {length} lines"


@pytest.mark.parametrize(
    "path",
    [path for path in FILES if "core" in path.relative_to(SOURCE).parts or path.stem == "model"],
    ids=lambda path: str(path.relative_to(SOURCE)),
)
def test_a_decision_does_not_wait(path: Path) -> None:
    waits = [node for node in ast.walk(tree(path)) if isinstance(node, ast.AsyncFunctionDef | ast.Await)]
    assert not waits


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_every_module_says_what_it_is_for(path: Path) -> None:
    assert ast.get_docstring(tree(path)), "a module begins with a docstring"


@pytest.mark.parametrize(
    "path",
    [path for path in FILES if path.stem in {"model", "ports", "service", "protocol"} or "kernel" in path.parts],
    ids=lambda path: str(path.relative_to(SOURCE)),
)
def test_public_doors_are_documented(path: Path) -> None:
    for node in tree(path).body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef) and not node.name.startswith("_"):
            assert ast.get_docstring(node), f"{node.name} has no docstring"
