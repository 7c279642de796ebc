"""Alembic's door: it runs on the connection that `app.database.migrate` hands over."""

from __future__ import annotations

from alembic import context

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=context.config.attributes.get("metadata"),  # only when a migration is drafted
    transactional_ddl=True,
)
with context.begin_transaction():
    context.run_migrations()
