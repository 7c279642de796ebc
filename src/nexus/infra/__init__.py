"""Plumbing that several slices use: records, blobs, HTTP clients, the web kit, clocks."""
