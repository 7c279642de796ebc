"""Job Store: templates with parameters, one form away from a run."""
