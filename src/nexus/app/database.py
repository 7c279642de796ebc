"""Open the database, at the schema that this version of Nexus expects."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import sqlalchemy as sa

from nexus.app.kinds import KINDS
from nexus.app.settings import Settings
from nexus.infra.records.sql import SqlRecords, build_tables, open_engine
from nexus.kernel.errors import UnavailableError
from nexus.track.adapters import metrics_tables
from nexus.track.adapters.metrics_sql import SqlMetrics

HEAD = "0006"  # the newest migration; a test holds it against the folder
MIGRATIONS = Path(__file__).parent / "migrations"


def open_records(url: str) -> SqlRecords:
    """Records at `url`, migrated, and kept from other servers until they are closed.

    Raises ConflictError when another server works there, UnavailableError.
    """
    engine = open_engine(url)
    records = SqlRecords(engine, build_tables(KINDS))
    try:
        with _answers(engine):
            engine.connect().close()
            records.hold()
            with engine.connect() as connection:
                current, is_new = _current(connection), not sa.inspect(connection).get_table_names()
            if is_new:
                create(engine)
            elif current != HEAD:  # importing Alembic takes longer than a start should
                migrate(engine)
    except BaseException:
        records.close()
        raise
    return records


def open_metrics(settings: Settings) -> SqlMetrics:
    """Metrics in the same PostgreSQL, or in a SQLite file of their own: their writer never waits for the records'.

    Raises UnavailableError.
    """
    is_sqlite = settings.database_url.startswith("sqlite")
    engine = open_engine(f"sqlite:///{settings.home / 'metrics.db'}" if is_sqlite else settings.database_url)
    with _answers(engine):
        metrics_tables.metadata.create_all(engine)
    return SqlMetrics(engine)


@contextmanager
def _answers(engine: sa.Engine) -> Iterator[None]:
    """What the database has against being opened, as an error with a next step; then nothing of it stays open."""
    try:
        yield
    except sa.exc.DatabaseError as error:
        engine.dispose()
        where = engine.url.render_as_string(hide_password=True)
        hint = "Check the setting `database` (NEXUS_DATABASE)."
        if engine.dialect.name == "sqlite":
            hint = "Does another program hold the file? If it is damaged, put a backup in its place or move it away."
        raise UnavailableError(f"cannot open the database {where}: {error.orig}", hint=hint) from error


def create(engine: sa.Engine) -> None:
    """The newest schema in an empty database, at once: what all migrations lead to, as a test holds."""
    tables = build_tables(KINDS)
    version = sa.Table("alembic_version", tables, sa.Column("version_num", sa.String(32), primary_key=True))
    with engine.begin() as connection:
        tables.create_all(connection)
        connection.execute(sa.insert(version).values(version_num=HEAD))


def migrate(engine: sa.Engine) -> None:
    """Bring the schema to the newest migration."""
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "head")


def _current(connection: sa.Connection) -> str | None:
    if not sa.inspect(connection).has_table("alembic_version"):
        return None
    return connection.execute(sa.text("SELECT version_num FROM alembic_version")).scalar()
