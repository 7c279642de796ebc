"""The Job Store's commands."""
