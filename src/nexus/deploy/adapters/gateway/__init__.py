"""The data plane: a reverse proxy of protocols and callbacks, without a task or a header dictionary per request."""
