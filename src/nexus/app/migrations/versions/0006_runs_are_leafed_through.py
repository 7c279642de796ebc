"""Runs are leafed through by project and age."""

from __future__ import annotations

from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    op.create_index("ix_run_pages", "run", ["project", "created", "id"], unique=False)
