"""How people reach the Job Store: HTTP and the command line."""
