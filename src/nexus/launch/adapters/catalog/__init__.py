"""List prices of machines that clouds rent out: a dated snapshot, shipped or refreshed."""
