"""Studio: web pages over everything."""
