"""The world: template folders on this disk, and the launch of a filled form."""
