"""Launch faces commands."""
