"""What the parts of the hub ask of each other; only the composition root names who answers."""
