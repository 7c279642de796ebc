"""Commands of tracking: logs, metrics, artifacts, models."""
