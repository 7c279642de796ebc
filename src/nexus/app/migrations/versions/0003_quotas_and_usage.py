"""Quotas and usage."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.create_table(
        "quota",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("project", sa.Text(), nullable=False),
        sa.Column("created", sa.Double(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("doc", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("project", name="uq_quota"),
    )
    op.create_index(op.f("ix_quota_created"), "quota", ["created"], unique=False)
    op.create_index(op.f("ix_quota_project"), "quota", ["project"], unique=False)
    op.create_table(
        "usage",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("project", sa.Text(), nullable=False),
        sa.Column("created", sa.Double(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("doc", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("project", name="uq_usage"),
    )
    op.create_index(op.f("ix_usage_created"), "usage", ["created"], unique=False)
    op.create_index(op.f("ix_usage_project"), "usage", ["project"], unique=False)
