"""What the ssh provider is made of."""
