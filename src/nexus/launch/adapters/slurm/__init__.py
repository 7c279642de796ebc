"""What is only for Slurm, beside its provider."""
