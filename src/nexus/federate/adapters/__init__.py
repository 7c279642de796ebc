"""The world: worker processes, the network, the disk, the run's record."""
