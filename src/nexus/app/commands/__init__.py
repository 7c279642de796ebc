"""Commands of the house itself: up, down, server, login, open."""
