"""Deploy: models behind endpoints, and chat."""
