"""How people reach the agent."""
