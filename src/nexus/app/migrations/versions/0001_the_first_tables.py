"""The first tables."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:

    op.create_table(
        "artifact",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("project", sa.Text(), nullable=False),
        sa.Column("created", sa.Double(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("run", sa.Text(), nullable=True),
        sa.Column("task", sa.Text(), nullable=True),
        sa.Column("name", sa.Text(), nullable=True),
        sa.Column("digest", sa.Text(), nullable=True),
        sa.Column("doc", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index(op.f("ix_artifact_created"), "artifact", ["created"], unique=False)
    op.create_index(op.f("ix_artifact_digest"), "artifact", ["digest"], unique=False)
    op.create_index(op.f("ix_artifact_name"), "artifact", ["name"], unique=False)
    op.create_index(op.f("ix_artifact_project"), "artifact", ["project"], unique=False)
    op.create_index(op.f("ix_artifact_run"), "artifact", ["run"], unique=False)
    op.create_index(op.f("ix_artifact_task"), "artifact", ["task"], unique=False)
    op.create_table(
        "endpoint",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("project", sa.Text(), nullable=False),
        sa.Column("created", sa.Double(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("name", sa.Text(), nullable=True),
        sa.Column("state", sa.Text(), nullable=True),
        sa.Column("doc", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("project", "name", name="uq_endpoint"),
    )
    op.create_index(op.f("ix_endpoint_created"), "endpoint", ["created"], unique=False)
    op.create_index(op.f("ix_endpoint_name"), "endpoint", ["name"], unique=False)
    op.create_index(op.f("ix_endpoint_project"), "endpoint", ["project"], unique=False)
    op.create_index(op.f("ix_endpoint_state"), "endpoint", ["state"], unique=False)
    op.create_table(
        "events",
        sa.Column("seq", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("project", sa.Text(), nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("data", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("seq"),
        sqlite_autoincrement=True,
    )
    op.create_index(op.f("ix_events_project"), "events", ["project"], unique=False)
    op.create_index(op.f("ix_events_subject"), "events", ["subject"], unique=False)
    op.create_table(
        "model",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("project", sa.Text(), nullable=False),
        sa.Column("created", sa.Double(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("name", sa.Text(), nullable=True),
        sa.Column("doc", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("project", "name", name="uq_model"),
    )
    op.create_index(op.f("ix_model_created"), "model", ["created"], unique=False)
    op.create_index(op.f("ix_model_name"), "model", ["name"], unique=False)
    op.create_index(op.f("ix_model_project"), "model", ["project"], unique=False)
    op.create_table(
        "model_version",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("project", sa.Text(), nullable=False),
        sa.Column("created", sa.Double(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("model", sa.Text(), nullable=True),
        sa.Column("number", sa.Text(), nullable=True),
        sa.Column("run", sa.Text(), nullable=True),
        sa.Column("digest", sa.Text(), nullable=True),
        sa.Column("doc", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("project", "model", "number", name="uq_model_version"),
    )
    op.create_index(op.f("ix_model_version_created"), "model_version", ["created"], unique=False)
    op.create_index(op.f("ix_model_version_digest"), "model_version", ["digest"], unique=False)
    op.create_index(op.f("ix_model_version_model"), "model_version", ["model"], unique=False)
    op.create_index(op.f("ix_model_version_number"), "model_version", ["number"], unique=False)
    op.create_index(op.f("ix_model_version_project"), "model_version", ["project"], unique=False)
    op.create_index(op.f("ix_model_version_run"), "model_version", ["run"], unique=False)
    op.create_table(
        "node",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("project", sa.Text(), nullable=False),
        sa.Column("created", sa.Double(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("name", sa.Text(), nullable=True),
        sa.Column("state", sa.Text(), nullable=True),
        sa.Column("provider", sa.Text(), nullable=True),
        sa.Column("doc", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("project", "name", name="uq_node"),
    )
    op.create_index(op.f("ix_node_created"), "node", ["created"], unique=False)
    op.create_index(op.f("ix_node_name"), "node", ["name"], unique=False)
    op.create_index(op.f("ix_node_project"), "node", ["project"], unique=False)
    op.create_index(op.f("ix_node_provider"), "node", ["provider"], unique=False)
    op.create_index(op.f("ix_node_state"), "node", ["state"], unique=False)
    op.create_table(
        "round",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("project", sa.Text(), nullable=False),
        sa.Column("created", sa.Double(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("run", sa.Text(), nullable=True),
        sa.Column("number", sa.Text(), nullable=True),
        sa.Column("doc", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("run", "number", name="uq_round"),
    )
    op.create_index(op.f("ix_round_created"), "round", ["created"], unique=False)
    op.create_index(op.f("ix_round_number"), "round", ["number"], unique=False)
    op.create_index(op.f("ix_round_project"), "round", ["project"], unique=False)
    op.create_index(op.f("ix_round_run"), "round", ["run"], unique=False)
    op.create_table(
        "run",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("project", sa.Text(), nullable=False),
        sa.Column("created", sa.Double(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("name", sa.Text(), nullable=True),
        sa.Column("state", sa.Text(), nullable=True),
        sa.Column("kind", sa.Text(), nullable=True),
        sa.Column("user", sa.Text(), nullable=True),
        sa.Column("key", sa.Text(), nullable=True),
        sa.Column("doc", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index(op.f("ix_run_created"), "run", ["created"], unique=False)
    op.create_index(op.f("ix_run_key"), "run", ["key"], unique=False)
    op.create_index(op.f("ix_run_kind"), "run", ["kind"], unique=False)
    op.create_index(op.f("ix_run_name"), "run", ["name"], unique=False)
    op.create_index(op.f("ix_run_project"), "run", ["project"], unique=False)
    op.create_index(op.f("ix_run_state"), "run", ["state"], unique=False)
    op.create_index(op.f("ix_run_user"), "run", ["user"], unique=False)
    op.create_table(
        "stream",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("project", sa.Text(), nullable=False),
        sa.Column("created", sa.Double(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("run", sa.Text(), nullable=True),
        sa.Column("doc", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index(op.f("ix_stream_created"), "stream", ["created"], unique=False)
    op.create_index(op.f("ix_stream_project"), "stream", ["project"], unique=False)
    op.create_index(op.f("ix_stream_run"), "stream", ["run"], unique=False)
    op.create_table(
        "task",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("project", sa.Text(), nullable=False),
        sa.Column("created", sa.Double(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("run", sa.Text(), nullable=True),
        sa.Column("node", sa.Text(), nullable=True),
        sa.Column("state", sa.Text(), nullable=True),
        sa.Column("doc", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index(op.f("ix_task_created"), "task", ["created"], unique=False)
    op.create_index(op.f("ix_task_node"), "task", ["node"], unique=False)
    op.create_index(op.f("ix_task_project"), "task", ["project"], unique=False)
    op.create_index(op.f("ix_task_run"), "task", ["run"], unique=False)
    op.create_index(op.f("ix_task_state"), "task", ["state"], unique=False)
    op.create_table(
        "token",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("project", sa.Text(), nullable=False),
        sa.Column("created", sa.Double(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("purpose", sa.Text(), nullable=True),
        sa.Column("subject", sa.Text(), nullable=True),
        sa.Column("doc", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index(op.f("ix_token_created"), "token", ["created"], unique=False)
    op.create_index(op.f("ix_token_project"), "token", ["project"], unique=False)
    op.create_index(op.f("ix_token_purpose"), "token", ["purpose"], unique=False)
    op.create_index(op.f("ix_token_subject"), "token", ["subject"], unique=False)
    op.create_table(
        "upload",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("project", sa.Text(), nullable=False),
        sa.Column("created", sa.Double(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("digest", sa.Text(), nullable=True),
        sa.Column("doc", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("project", "digest", name="uq_upload"),
    )
    op.create_index(op.f("ix_upload_created"), "upload", ["created"], unique=False)
    op.create_index(op.f("ix_upload_digest"), "upload", ["digest"], unique=False)
    op.create_index(op.f("ix_upload_project"), "upload", ["project"], unique=False)
