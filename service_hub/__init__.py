"""The service hub: vaults, policies, mappings, durable jobs, signed events."""
