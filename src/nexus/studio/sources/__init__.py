"""The slices' services as the pages' ports: Studio's own words on one side, theirs on the other."""
