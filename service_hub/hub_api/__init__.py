"""HTTPS for operators: the routes of the hub itself."""
