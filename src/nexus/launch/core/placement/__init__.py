"""Which node gets which task: the cheapest place that fits, or every reason why there is none."""
