"""The web kit: identities, errors and bodies, the same on every route."""
