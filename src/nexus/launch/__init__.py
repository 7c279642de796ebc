"""Launch: find a machine for a job, and run the job on it."""
