"""What should happen in a round: seeds, cohorts, algorithms, aggregation, training."""
