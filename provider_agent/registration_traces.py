"""What a registration leaves beside the channel: in VMM, and in the data directory."""

import asyncio
from pathlib import Path

from provider_agent.credentials import forget_identity
from provider_agent.fabric.driver import FabricDriver
from provider_agent.fabric.vmm_service import VmmService
from provider_agent.proxy import REGISTERED_FILE
from provider_agent.setup.record import remove_record
from wire_contract.vmm_service import PROXY_ACCOUNT


async def forget_in_vmm(driver: FabricDriver, service: VmmService, data_directory: Path) -> None:
    """Remove the RunAs account, the clouds' property and the notes of all nodes; repeatable."""
    await service.delete_run_as(PROXY_ACCOUNT)
    for cloud in (await driver.inventory()).clouds:
        await service.synchronize(cloud.cloud_id, synchronize=False)
    for node in (await service.view()).nodes:
        await service.note_provider(node.fqdn, None)
        await asyncio.to_thread(remove_record, data_directory, node.fqdn)


def forget_registration(data_directory: Path) -> None:
    """Delete identity and accepted proxy: what it leaves is a server that may register anew."""
    forget_identity(data_directory)
    (data_directory / REGISTERED_FILE).unlink(missing_ok=True)
