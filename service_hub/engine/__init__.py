"""The durable job engine: the committer, the runner of jobs, timers, recovery at start."""
