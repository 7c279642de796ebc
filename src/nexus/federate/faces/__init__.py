"""How people reach Federate."""
