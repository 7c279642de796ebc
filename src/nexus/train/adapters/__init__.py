"""The world of Train: models on disk, data from packages, the training loop, and files for engines."""
