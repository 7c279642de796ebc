"""Access faces."""
