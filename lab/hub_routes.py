"""The hub's own routes, as the lab uses them (the rest goes through the official SDK)."""

import ssl
from typing import Final

import aiohttp

from lab.operator_client import HubAddress
from service_shell.errors import ProgramError

REQUEST_SECONDS_MAX: Final = 20.0


async def hub_vault_id(address: HubAddress, token: str) -> str:
    """Return the hub's own id of the vault, a GUID, which its own routes are addressed with."""
    context = ssl.create_default_context(cafile=address.ca_file)
    try:
        async with (
            aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(ssl=context),
                headers={"Authorization": f"Bearer {token}"},
                timeout=aiohttp.ClientTimeout(total=REQUEST_SECONDS_MAX),
                raise_for_status=True,
            ) as session,
            session.get(f"{address.base_url}/hub/v1/vaults") as response,
        ):
            listed = await response.json()
    except (aiohttp.ClientError, TimeoutError) as error:
        raise ProgramError(f"the hub does not list its vaults: {error}; see its log") from error
    wanted = (address.subscription_id.lower(), address.resource_group.lower(), address.vault)
    for vault in listed["vaults"]:
        place = (vault["subscription_id"].lower(), vault["resource_group"].lower(), vault["name"])
        if place == wanted:
            return str(vault["vault_id"])
    raise ProgramError(f"the hub has no vault {address.vault}; see its log")
