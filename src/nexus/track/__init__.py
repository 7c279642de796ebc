"""Track: the record of every run. Metrics, logs, artifacts, models."""
