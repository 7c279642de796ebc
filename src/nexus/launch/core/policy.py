"""The numbers by which Launch decides, in one place."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """All in seconds, unless the name says otherwise."""

    heartbeat_s: float = 5.0  # an agent's sync is answered after this long at the latest
    missed: int = 3  # heartbeats before a silent node is UNREACHABLE
    lease_s: float = 30.0  # an agent kills a task whose lease it could not renew for so long
    margin_s: float = 5.0  # what clocks' rates and killing may take beyond that, before another node gets the work
    log_patience_s: float = 60.0  # how long a task's end waits for the rest of its log
    settled_s: float = 60.0  # a task that ran this long is restarted without more backoff
    restart_s: float = 1.0  # first pause before a restarted role's task; doubles
    restart_max_s: float = 60.0
    start_s: float = 180.0  # a machine whose agent has not spoken after this long, or 4 times its offer's, has failed
    block_s: float = 30.0  # an offer whose machine did not start is left alone for so long; doubles with each failure
    block_max_s: float = 900.0
    look_s: float = 10.0  # how often a provider is asked what became of its machines
    offers_s: float = 60.0  # how long what a provider offers is believed
    call_s: float = 120.0  # one call of a provider takes this long at most
    remember_s: float = 86_400.0  # how long machines that are over are kept
    calls_at_once: int = 256  # to tasks and nodes, in one project
    call_wait_s: float = 10.0  # how long a call waits for the node's agent
    call_idle_s: float = 4 * 3600.0  # a call over which nothing passes is ended
    spot_reclaims_per_h: float = 0.05  # how often a spot machine is taken away of which nobody says
    reclaim_loss_s: float = 600.0  # what that costs a run: half the time between two checkpoints
    restart_loss_s: float = 300.0  # and getting another machine ready
    tick_s: float = 1.0  # the scheduler looks at least this often
    steps: int = 500  # of runs in one look at most; the others have the next
    tries: int = 500  # of lines of the queue for which there is no room, in one look
    aging_s: float = 900.0  # who waits while others have more than their share rises by one priority every so often
    memory_s: float = 86_400.0  # what a project held counts half after this long
    history: float = 0.25  # how much what a project held counts beside what it holds
    reserve_after_s: float = 60.0  # a run that waits only for room that others hold has room kept from then on
    reservations: int = 4  # for so many runs at once
    reserve_again_s: float = 60.0  # how long such a plan stands before it is made anew
    restart_cost_s: float = 60.0  # what it costs to stop a task for another, beside the time that it has worked
    rebuild_s: float = 300.0  # how often what the scheduler has in memory is compared with the records

    @property
    def unreachable_s(self) -> float:
        """How long a node may be silent before it gets no new tasks."""
        return self.heartbeat_s * (self.missed + 0.5)

    @property
    def lost_s(self) -> float:
        """How long after the last renewal a lease is certainly over."""
        return self.lease_s + self.margin_s
