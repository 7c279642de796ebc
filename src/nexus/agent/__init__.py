"""Agent: the process on a node. Small, dials out only, keeps what should run running."""
