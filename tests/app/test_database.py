"""The migrations and the kinds say the same, on both databases; and a start at the newest schema is quick."""

from __future__ import annotations

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


def test_head_is_the_newest_file() -> None:
    assert ScriptDirectory(str(MIGRATIONS)).get_current_head() == HEAD


def test_opening_twice_is_opening_once(url: str) -> None:
    open_records(url).close()
    open_records(url).close()


def test_no_database_says_which_setting() -> None:
    with pytest.raises(UnavailableError, match="cannot open") as caught:
        open_records("postgresql://127.0.0.1:9/nothing")
    assert "NEXUS_DATABASE" in caught.value.hint
