"""What should happen. Pure."""
