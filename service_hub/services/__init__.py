"""Use cases, one file per noun: load, decide, save."""
