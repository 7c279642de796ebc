"""Federate's commands."""
