"""Launch core."""
