"""The world as an agent meets it: HTTP, processes, disks."""
