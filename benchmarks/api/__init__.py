"""What the hub's ARM surface costs, beside a bare handler: `make bench-api`."""
