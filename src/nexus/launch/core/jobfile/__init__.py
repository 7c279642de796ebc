"""Job files: text of any dialect to checked jobs, and back."""
