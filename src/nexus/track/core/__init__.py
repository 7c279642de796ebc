"""Decisions of tracking: how points are packed and thinned, and in which order lines are read. Pure."""
