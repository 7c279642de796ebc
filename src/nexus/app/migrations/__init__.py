"""Alembic's scripts: `versions/NNNN_what.py`, each a step that the server takes by itself at its start."""
