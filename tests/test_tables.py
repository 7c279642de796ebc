"""Every extension table: a line for each file, a file for each line, and each entry is what its table says."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import click
import pytest

from nexus.app.cli import COMMANDS, SECTIONS, TABLE
from nexus.deploy.core.engines import ENGINES
from nexus.federate.core.algorithms import ALGORITHMS
from nexus.kernel.registry import Registry
from nexus.launch.adapters.providers import PROVIDERS
from nexus.launch.core.jobfile.dialects import DIALECTS
from nexus.launch.core.jobkind import KINDS
from nexus.store.templates import TEMPLATES
from nexus.studio.page import Page
from nexus.studio.pages import PAGES

ROOT = Path(__file__).parent.parent
SOURCE = ROOT / "src"


def modules(*globs: str) -> set[str]:
    """The modules that match, but for packages' own `__init__`."""
    files = [file for glob in globs for file in SOURCE.glob(glob) if file.name != "__init__.py"]
    return {".".join(file.relative_to(SOURCE).with_suffix("").parts) for file in files}


def targets(registry: Registry[object] | Registry[click.Command] | Registry[Page]) -> set[str]:
    return {target.partition(":")[0] for target in registry.table.values()}


@pytest.mark.parametrize(
    ("table", "files"),
    [
        (COMMANDS, modules("nexus/*/faces/commands/*.py", "nexus/app/commands/*.py")),
        (PAGES, modules("nexus/studio/pages/*.py")),
        (ALGORITHMS, modules("nexus/federate/core/algorithms/*.py")),
        (KINDS, modules("nexus/launch/core/kinds/*.py", "nexus/*/core/jobsection.py")),
        (DIALECTS, modules("nexus/launch/core/jobfile/dialects/*.py")),
        (PROVIDERS, modules("nexus/launch/adapters/providers/*.py")),
    ],
    ids=["commands", "pages", "algorithms", "kinds", "dialects", "providers"],
)
def test_files_and_lines_agree(table: Registry[object], files: Iterable[str]) -> None:
    assert targets(table) == set(files)
    for name in table:
        assert table.get(name) is not None


def test_every_command_says_what_the_list_says_and_stands_in_one_section() -> None:
    listed = [name for names in SECTIONS.values() for name in names]
    assert sorted(listed) == sorted(TABLE)
    for name in COMMANDS:
        command = COMMANDS.get(name)
        assert isinstance(command, click.Command)
        assert command.help, f"{name} has no help"


def test_every_page_is_a_page() -> None:
    for name in PAGES:
        assert isinstance(PAGES.get(name), Page)


def test_every_template_is_an_example_with_its_file() -> None:
    folders = {file.parent.name for file in (ROOT / "examples").glob("*/template.yaml")}
    assert folders == set(TEMPLATES)


def test_every_engine_that_serves_has_its_server() -> None:
    served = {engine.serve.partition(":")[0] for engine in ENGINES.values() if engine.serve}
    assert served <= modules("nexus/deploy/adapters/engines/*.py")
