"""The doctor: walks the way to the hub and says at which step it ends, and why."""
