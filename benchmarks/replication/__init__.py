"""How fast and how small replication of disks is, beside what else would copy them."""
