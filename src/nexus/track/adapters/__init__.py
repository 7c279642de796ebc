"""Where metrics and logs are kept: SQL for numbers in chunks, segment files for lines."""
