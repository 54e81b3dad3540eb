"""Everything the surface needs, passed in by the composition root."""

from dataclasses import dataclass

from service_hub.arm.calls import Call
from service_hub.domain.records import Vault
from service_hub.mapping_ports import NetworkMappingUseCases, StorageMappingUseCases
from service_hub.operator_ports import ServerUseCases
from service_hub.plan_ports import RecoveryPlanUseCases
from service_hub.ports.surroundings import Clock
from service_hub.ports.use_cases import (
    AlertUseCases,
    EventUseCases,
    FabricUseCases,
    JobUseCases,
    OperatorTokens,
    PairingUseCases,
    PolicyUseCases,
    ProtectionUseCases,
    VaultUseCases,
)
from service_hub.services.audit import asked_in


@dataclass(frozen=True, slots=True, kw_only=True)
class ArmApi:
    """The use cases behind the surface, and what its answers need to know of themselves.

    Every URL in an answer begins with `public_url`; the Host of a request is never believed.
    """

    vaults: VaultUseCases
    fabrics: FabricUseCases
    policies: PolicyUseCases
    pairing: PairingUseCases
    protection: ProtectionUseCases
    networks: NetworkMappingUseCases
    storage: StorageMappingUseCases
    jobs: JobUseCases
    events: EventUseCases
    alerts: AlertUseCases
    servers: ServerUseCases
    plans: RecoveryPlanUseCases
    tokens: OperatorTokens
    clock: Clock
    public_url: str
    retry_after_seconds: int = 30

    def __post_init__(self) -> None:
        if self.public_url.endswith("/"):
            object.__setattr__(self, "public_url", self.public_url.rstrip("/"))

    async def vault(self, call: Call) -> Vault:
        """Return the vault that a path names; NotFoundError."""
        found = await self.vaults.find(
            call.name("subscription"), call.name("resource_group"), call.name("vault")
        )
        asked_in(found.id)
        return found
