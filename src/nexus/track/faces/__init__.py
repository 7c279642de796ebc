"""Tracking to the outside: HTTP routes, a client, commands."""
