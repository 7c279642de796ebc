"""Who is next: priorities, fair shares, quotas, reservations, preemption. What fits where is `placement`'s to say."""
