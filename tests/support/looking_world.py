"""A hub of tests with all that lookers ask: waiting, changes, figures, previews."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

from service_hub.domain.records import ProviderContact
from service_hub.looker_parts import LookerParts, looker_parts
from service_hub.ports.changes import Change, Save
from tests.support.hub_world import HubWorld, hub_world

LEASE = timedelta(hours=1)
RETENTION = timedelta(days=180)


@asynccontextmanager
async def looking(folder: Path) -> AsyncIterator[tuple[HubWorld, LookerParts]]:
    """Run a hub, and what is asked of it by who only looks on."""
    async with hub_world(folder, LEASE) as world:
        parts = looker_parts(
            world.store,
            world.committer,
            world.clock,
            fabrics=world.fabrics,
            checker=world.leaving.checker,
            plans=world.recovery_plans,
            archive_directory=folder / "archive",
            retention=RETENTION,
        )
        yield world, parts


async def booted(world: HubWorld, site: str, boot_id: str) -> None:
    """Have a site's provider be heard of, in that run of its process."""
    contact = ProviderContact(
        id=world.providers[site].id,
        vault_id=world.vault.id,
        last_contact_at=world.clock.now(),
        boot_id=boot_id,
    )
    await world.committer.commit(Change(saves=(Save(contact, None),)))
