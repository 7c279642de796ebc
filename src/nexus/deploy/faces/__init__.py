"""How people reach it: HTTP routes, a typed client, commands."""
