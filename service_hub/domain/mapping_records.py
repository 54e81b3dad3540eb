"""What operators mapped: VM networks and storage classifications of one server to another's.

Their ids make the rules hold: a network, and a classification, is mapped to one of each server.
"""

from typing import ClassVar

from service_hub.domain.records import Record


class NetworkMapping(Record):
    """A VM network of one server and the one that replicas at the other are connected to.

    `name` is its name below the network on the ARM surface.
    """

    kind: ClassVar[str] = "network_mapping"

    name: str
    primary_provider_id: str
    primary_network_id: str
    recovery_provider_id: str
    recovery_network_id: str

    @property
    def primary_part_id(self) -> str:
        """The id of what is mapped."""
        return self.primary_network_id


class StorageMapping(Record):
    """A storage classification of one server and the one that new replicas' disks go to."""

    kind: ClassVar[str] = "storage_mapping"

    name: str
    primary_provider_id: str
    primary_classification_id: str
    recovery_provider_id: str
    recovery_classification_id: str

    @property
    def primary_part_id(self) -> str:
        """The id of what is mapped."""
        return self.primary_classification_id


def mapping_id(vault_id: str, primary_provider_id: str, part_id: str, recovery_id: str) -> str:
    """Return the id of the one mapping of a network or classification to a server."""
    return f"{vault_id}/{primary_provider_id}/{part_id}/{recovery_id}".lower()
