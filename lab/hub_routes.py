"""What the lab asks of the hub's own routes (the rest goes through the official SDK)."""

import asyncio
from pathlib import Path

from lab.operator_client import HubAddress
from site_recovery_cli.connection import open_routes


async def hub_vault_id(address: HubAddress, token: str) -> str:
    """Return the hub's own id of the vault, a GUID, which its own routes are addressed with."""
    trust = await asyncio.to_thread(Path(address.ca_file).read_text)
    async with open_routes(address.base_url, trust, token) as routes:
        return await routes.vault_id(address.subscription_id, address.resource_group, address.vault)
