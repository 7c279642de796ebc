"""Launch adapters."""
