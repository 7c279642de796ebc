"""Job Store: ready jobs with parameters, started with a click."""
