"""Words that every slice shares. Pure: no IO, no clock, no randomness; nothing here imports another slice."""
