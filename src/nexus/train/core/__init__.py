"""Decisions of Train: what a job compiles to, which words are trained, in what order. Some of it needs numbers."""
