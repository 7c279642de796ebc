"""The migrations and the kinds say the same, on both databases; and a start at the newest schema is quick."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from nexus.app.database import HEAD, MIGRATIONS, migrate, open_records
from nexus.app.kinds import KINDS
from nexus.infra.records.sql import build_tables, open_engine
from nexus.kernel.errors import UnavailableError


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'nexus.db'}"
    new_database: Callable[[], str] = request.getfixturevalue("postgres")
    return new_database()


def test_the_newest_migration_is_what_the_kinds_say(url: str) -> None:
    engine = open_engine(url)
    migrate(engine)
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), build_tables(KINDS)) == []
    engine.dispose()


def test_a_new_database_is_as_one_that_was_migrated_and_goes_on_from_there(url: str) -> None:
    open_records(url).close()
    engine = open_engine(url)
    with engine.connect() as connection:
        context = MigrationContext.configure(connection)
        assert context.get_current_revision() == HEAD
        assert compare_metadata(context, build_tables(KINDS)) == []
    migrate(engine)
    engine.dispose()


def test_a_start_with_a_new_or_a_ready_database_imports_no_alembic(tmp_path: Path) -> None:
    code = (
        "import sys; from nexus.app.database import open_records;"
        f"[open_records('sqlite:///{tmp_path}/nexus.db').close() for _ in range(2)]; print('alembic' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_head_is_the_newest_file() -> None:
    assert ScriptDirectory(str(MIGRATIONS)).get_current_head() == HEAD


def test_opening_twice_is_opening_once(url: str) -> None:
    open_records(url).close()
    open_records(url).close()


def test_no_database_says_which_setting() -> None:
    with pytest.raises(UnavailableError, match="cannot open") as caught:
        open_records("postgresql://127.0.0.1:9/nothing")
    assert "NEXUS_DATABASE" in caught.value.hint
