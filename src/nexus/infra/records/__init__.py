"""Implementations of `kernel.records.Records`: memory, and SQL (SQLite, PostgreSQL)."""
