"""What keeps a task apart from its machine, beyond a process group of its own: a sandbox, or a container.

Both are another command line around the task's: the shim stays the parent, so logs, leases, timeouts, stops and
restarts of the agent are the same for all. What the task may touch is said once, by an `Enclosure`.
"""
