"""What should happen: pure decisions about routes, rollouts, headers and plans."""
