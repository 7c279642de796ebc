"""Composition root: settings, wiring, server, command line, Python client."""
