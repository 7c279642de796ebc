"""Federate: learn together from data that stays where it is."""
