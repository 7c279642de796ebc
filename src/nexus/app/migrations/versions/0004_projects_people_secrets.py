"""Projects people secrets and a chain of events."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    op.create_table(
        "membership",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("project", sa.Text(), nullable=False),
        sa.Column("created", sa.Double(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("user", sa.Text(), nullable=True),
        sa.Column("doc", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index(op.f("ix_membership_created"), "membership", ["created"], unique=False)
    op.create_index(op.f("ix_membership_project"), "membership", ["project"], unique=False)
    op.create_index(op.f("ix_membership_user"), "membership", ["user"], unique=False)
    op.create_table(
        "project",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("project", sa.Text(), nullable=False),
        sa.Column("created", sa.Double(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("doc", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index(op.f("ix_project_created"), "project", ["created"], unique=False)
    op.create_index(op.f("ix_project_project"), "project", ["project"], unique=False)
    op.create_table(
        "secret",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("project", sa.Text(), nullable=False),
        sa.Column("created", sa.Double(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("name", sa.Text(), nullable=True),
        sa.Column("doc", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index(op.f("ix_secret_created"), "secret", ["created"], unique=False)
    op.create_index(op.f("ix_secret_name"), "secret", ["name"], unique=False)
    op.create_index(op.f("ix_secret_project"), "secret", ["project"], unique=False)
    op.create_table(
        "user",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("project", sa.Text(), nullable=False),
        sa.Column("created", sa.Double(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("doc", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index(op.f("ix_user_created"), "user", ["created"], unique=False)
    op.create_index(op.f("ix_user_project"), "user", ["project"], unique=False)
    op.add_column("events", sa.Column("digest", sa.Text(), server_default="", nullable=False))
    op.add_column("token", sa.Column("user", sa.Text(), nullable=True))
    op.create_index(op.f("ix_token_user"), "token", ["user"], unique=False)
