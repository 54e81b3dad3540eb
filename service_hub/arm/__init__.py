"""HTTPS for operators: the dialect of Azure Resource Manager."""
