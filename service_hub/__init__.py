"""The service hub: vaults, policies, mappings, durable jobs; speaks the ARM dialect and pushes signed events."""
