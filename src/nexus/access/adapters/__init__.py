"""The world: where keys lie, and the cipher."""
