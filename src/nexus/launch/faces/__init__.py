"""Launch faces."""
