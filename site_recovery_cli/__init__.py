"""The operator's command line: an ordinary client of the official SDK and the hub's own routes."""
