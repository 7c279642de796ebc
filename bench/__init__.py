"""Figures, by scripts that run a peer beside us. Never tests: a figure depends on the machine of the day."""
