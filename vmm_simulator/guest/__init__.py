"""The workload inside a running machine: an operating-system process of its own."""
