"""Fleets and machines."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.create_table(
        "fleet",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("project", sa.Text(), nullable=False),
        sa.Column("created", sa.Double(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("name", sa.Text(), nullable=True),
        sa.Column("provider", sa.Text(), nullable=True),
        sa.Column("doc", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("project", "name", name="uq_fleet"),
    )
    op.create_index(op.f("ix_fleet_created"), "fleet", ["created"], unique=False)
    op.create_index(op.f("ix_fleet_name"), "fleet", ["name"], unique=False)
    op.create_index(op.f("ix_fleet_project"), "fleet", ["project"], unique=False)
    op.create_index(op.f("ix_fleet_provider"), "fleet", ["provider"], unique=False)
    op.create_table(
        "machine",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("project", sa.Text(), nullable=False),
        sa.Column("created", sa.Double(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("fleet", sa.Text(), nullable=True),
        sa.Column("state", sa.Text(), nullable=True),
        sa.Column("run", sa.Text(), nullable=True),
        sa.Column("node", sa.Text(), nullable=True),
        sa.Column("doc", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index(op.f("ix_machine_created"), "machine", ["created"], unique=False)
    op.create_index(op.f("ix_machine_fleet"), "machine", ["fleet"], unique=False)
    op.create_index(op.f("ix_machine_node"), "machine", ["node"], unique=False)
    op.create_index(op.f("ix_machine_project"), "machine", ["project"], unique=False)
    op.create_index(op.f("ix_machine_run"), "machine", ["run"], unique=False)
    op.create_index(op.f("ix_machine_state"), "machine", ["state"], unique=False)
