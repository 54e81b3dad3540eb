"""What every daemon has: configuration, clock, logs, signals, exit codes, readiness, listeners."""
