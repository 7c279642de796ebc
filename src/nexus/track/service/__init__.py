"""Use cases of tracking: `Track`, and its parts for logs, metrics, artifacts, models and blobs."""

from nexus.track.service.track import Track as Track

__all__ = ["Track"]
