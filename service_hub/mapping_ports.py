"""What may be asked about mappings of networks and storage; ports.py says how ports are used."""

from typing import Protocol

from service_hub.domain.jobs import Job
from service_hub.domain.mapping_records import NetworkMapping, StorageMapping
from service_hub.domain.network_mapping import NetworkOffer
from service_hub.domain.records import Vault
from service_hub.ports.use_cases import RequestIdentity


class NetworkMappingUseCases(Protocol):
    """VM networks of one server mapped to those of another."""

    async def list(self, vault: Vault) -> list[NetworkMapping]:
        """Return all of a vault."""

    async def map(
        self,
        vault: Vault,
        *,
        name: str,
        primary: tuple[str, str],
        recovery: tuple[str, str] | None,
        identity: RequestIdentity,
        must_exist: bool = False,
    ) -> Job:
        """Map a network, or change its map; each given as (fabric name, network id).

        Without `recovery` the target stays, and the replicas' adapters are connected anew.
        `must_exist`: NotFoundError where nothing has this name yet.
        """

    async def unmap(
        self, vault: Vault, *, name: str, primary: tuple[str, str], identity: RequestIdentity
    ) -> Job:
        """Remove a map; the adapters of the replicas are disconnected. NotFoundError."""

    async def offers(
        self, vault: Vault, *, primary: tuple[str, str], recovery_fabric: str
    ) -> tuple[NetworkOffer, ...]:
        """Return what a network may be mapped to at a server, and for which of its clouds."""


class StorageMappingUseCases(Protocol):
    """Storage classifications of one server mapped to those of another."""

    async def list(self, vault: Vault) -> list[StorageMapping]:
        """Return all of a vault."""

    async def map(
        self,
        vault: Vault,
        *,
        name: str,
        primary: tuple[str, str],
        recovery: tuple[str, str],
        identity: RequestIdentity,
    ) -> Job:
        """Map a classification, or change its map; each given as (fabric name, id)."""

    async def unmap(
        self, vault: Vault, *, name: str, primary: tuple[str, str], identity: RequestIdentity
    ) -> Job:
        """Remove a map; replicas that are there stay where they are. NotFoundError."""
