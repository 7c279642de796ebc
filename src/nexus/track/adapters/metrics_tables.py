"""The tables of metrics: few rows, each with thousands of points in it.

A chart's sketch stands before the points in a row, so that SQLite reads one without the other.
"""

from __future__ import annotations

import sqlalchemy as sa

metadata = sa.MetaData()
_integer = sa.BigInteger().with_variant(sa.Integer(), "sqlite")

series = sa.Table(
    "metric_series",
    metadata,
    sa.Column("id", _integer, primary_key=True, autoincrement=False),
    sa.Column("run", sa.Text, nullable=False, index=True),
    sa.Column("task", sa.Text, nullable=False),
    sa.Column("role", sa.Text, nullable=False),
    sa.Column("index", sa.Integer, nullable=False),
    sa.Column("attempt", sa.Integer, nullable=False),
    sa.Column("key", sa.Text, nullable=False),
    sa.Column("n", _integer, nullable=False),
    sa.Column("step", _integer, nullable=False),  # of the last point, as are `at` and `value`
    sa.Column("at", sa.Double, nullable=False),
    sa.Column("value", sa.Double),  # NULL is NaN: SQLite has no other way to say it
    sa.Column("low", sa.Double),
    sa.Column("high", sa.Double),
    sa.UniqueConstraint("task", "key"),
)

chunk = sa.Table(
    "metric_chunk",
    metadata,
    sa.Column("series", _integer, primary_key=True),
    sa.Column("seq", _integer, primary_key=True),  # number of its first point
    sa.Column("n", sa.Integer, nullable=False),
    sa.Column("step0", _integer, nullable=False),
    sa.Column("step1", _integer, nullable=False),
    sa.Column("low", sa.Double),
    sa.Column("high", sa.Double),
    sa.Column("sketch", sa.LargeBinary, nullable=False),
    sa.Column("points", sa.LargeBinary, nullable=False),
)

stream = sa.Table(
    "metric_stream",
    metadata,
    sa.Column("task", sa.Text, primary_key=True),
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("end", _integer, nullable=False),
)

param = sa.Table(
    "metric_param",
    metadata,
    sa.Column("run", sa.Text, primary_key=True),
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("value", sa.Text, nullable=False),  # JSON
)
