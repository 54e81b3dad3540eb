"""Measurements beside bare baselines; `make bench-...` runs them."""
