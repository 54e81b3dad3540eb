"""Servers, networks, storage classifications and clouds as commands name them."""

from azure.mgmt.recoveryservicessiterecovery import models

from site_recovery_cli.connection import Connection
from site_recovery_cli.failures import explained
from site_recovery_cli.named_resources import Named, choose, listed, names_below_vault


async def fabric_names(connection: Connection, vault: str | None) -> dict[str, str]:
    """Return what people call each server, by its fabric's name."""
    fabrics = connection.recovery.replication_fabrics
    with explained("list servers", connection.hub):
        found = await listed(fabrics.list(*connection.scope(vault)))
    return {
        str(each.name).lower(): str(
            (each.properties and each.properties.friendly_name) or each.name
        )
        for each in found
    }


async def list_networks(connection: Connection, vault: str | None) -> list[Named]:
    """Return the VM networks of all servers."""
    titles = await fabric_names(connection, vault)
    group = connection.recovery.replication_networks
    with explained("list networks", connection.hub):
        found = await listed(group.list(*connection.scope(vault)))
    return [_placed(each, each.properties, titles) for each in found]


async def list_classifications(connection: Connection, vault: str | None) -> list[Named]:
    """Return the storage classifications of all servers."""
    titles = await fabric_names(connection, vault)
    group = connection.recovery.replication_storage_classifications
    with explained("list storage classifications", connection.hub):
        found = await listed(group.list(*connection.scope(vault)))
    return [_placed(each, each.properties, titles) for each in found]


async def list_clouds(connection: Connection, vault: str | None) -> list[Named]:
    """Return the clouds of all servers."""
    group = connection.recovery.replication_protection_containers
    with explained("list clouds", connection.hub):
        found = await listed(group.list(*connection.scope(vault)))
    return [
        Named(
            each, properties.friendly_name or each.name or "", properties.fabric_friendly_name or ""
        )
        for each in found
        for properties in (each.properties or models.ProtectionContainerProperties(),)
    ]


async def find_network(connection: Connection, vault: str | None, wanted: str) -> Named:
    """Return the VM network of this name, SERVER/NAME or id; CommandError."""
    return choose("network", wanted, await list_networks(connection, vault), "network list")


async def find_classification(connection: Connection, vault: str | None, wanted: str) -> Named:
    """Return the storage classification of this name, SERVER/NAME or id; CommandError."""
    known = await list_classifications(connection, vault)
    return choose("storage classification", wanted, known, "storage list")


async def find_cloud(connection: Connection, vault: str | None, wanted: str) -> Named:
    """Return the cloud of this name, SERVER/NAME or id; CommandError."""
    return choose("cloud", wanted, await list_clouds(connection, vault), "cloud list")


def _placed(
    resource: models.Network | models.StorageClassification,
    properties: models.NetworkProperties | models.StorageClassificationProperties | None,
    titles: dict[str, str],
) -> Named:
    fabric, *_ = names_below_vault(resource.id or "") or ("",)
    friendly = None if properties is None else properties.friendly_name
    return Named(resource, friendly or resource.name or "", titles.get(fabric.lower(), fabric))
