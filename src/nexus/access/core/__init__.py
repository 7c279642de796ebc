"""Access core."""
