"""The shim: starts one process, writes its log frames to the spool, ends it when its time is over, and tells its end.

It outlives the agent: whatever becomes of that, a job goes on, its output reaches the disk, its lease is kept, and its
exit code stays behind. The nursery forks it (see there), so it sees the standard library only, and little of that, for
every shim carries what the nursery has imported. It is a package of its own inside the agent's, whose modules know each
other only by relative names; the agent imports it for its formats.

Files in the job's place:

    spec       what to do: fields `name, count, value...`, each ended by NUL
    claim      locked while the shim lives; its content says which processes these are. Made exactly once
    exit       the end, as JSON; appears whole
"""
