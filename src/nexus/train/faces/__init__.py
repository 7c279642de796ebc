"""How people reach Train."""
