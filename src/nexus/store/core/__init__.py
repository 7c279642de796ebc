"""Pure: template files become templates, answers become overrides."""
