"""What the dialect has and this hub doesn't: said clearly, never by silence.

LATER answers 501 and says what to do instead. OTHER_REPLICATION belongs to VMware, physical
machines, Azure or migration and answers 400: it isn't part of replication between VMM sites.
"""

from dataclasses import dataclass
from typing import Final

from service_hub.arm import paths
from service_hub.arm.calls import Answer, Call, Handler
from service_hub.arm.errors import (
    NotImplementedHereError,
    OperationNotSupportedError,
    UnknownPathError,
)

EVERY_METHOD: Final = ("GET", "PUT", "PATCH", "POST", "DELETE")


@dataclass(frozen=True, slots=True)
class Missing:
    """Operations that are refused: their methods, their path, and what the refusal says."""

    methods: tuple[str, ...]
    path: str
    says: str


_CERTIFICATE = (
    "A server's certificate isn't renewed through this interface in this version: its provider does"
    " it by itself when two thirds of the time have passed."
)
_JOB_EXPORT = (
    "Jobs aren't exported through this interface in this version. The hub's own route does it:"
    " 'site-recovery job export'."
)
LATER: Final = (
    Missing(("POST",), f"{paths.FABRIC}/renewCertificate", _CERTIFICATE),
    Missing(("POST",), f"{paths.JOBS}/export", _JOB_EXPORT),
)

_NOT_HERE = (
    "This operation belongs to replication of VMware, physical or Azure machines, or to migration;"
    " it isn't part of replication between two VMM sites."
)

_NO_MAPPING_SETTINGS = (
    "A container mapping between two VMM sites has no settings of its own: change its policy. To"
    " change the target, remove the mapping and create it anew."
)

OTHER_REPLICATION: Final = (
    Missing(("PATCH",), paths.MAPPING, _NO_MAPPING_SETTINGS),
    Missing(("PUT",), paths.VAULT + "/replicationVaultSettings/{setting}", _NOT_HERE),
    *(
        Missing(("POST",), f"{paths.ITEM}/{verb}", _NOT_HERE)
        for verb in (
            "addDisks",
            "removeDisks",
            "switchProvider",
            "updateAppliance",
            "updateMobilityService",
            "reinstallMobilityService",
        )
    ),
    Missing(("GET",), f"{paths.ITEM}/targetComputeSizes", _NOT_HERE),
    *(
        Missing(("POST",), f"{paths.FABRIC}/{verb}", _NOT_HERE)
        for verb in ("migratetoaad", "reassociateGateway", "removeInfra")
    ),
    *(
        Missing(("POST",), f"{paths.CONTAINER}/{verb}", _NOT_HERE)
        for verb in ("switchClusterProtection", "switchprotection")
    ),
    *(
        Missing(EVERY_METHOD, root + "{rest:(?s:/.*)?}", _NOT_HERE)
        for root in (
            f"{paths.CONTAINER}/replicationMigrationItems",
            f"{paths.VAULT}/replicationMigrationItems",
            f"{paths.CONTAINER}/replicationProtectionClusters",
            f"{paths.VAULT}/replicationProtectionClusters",
            f"{paths.VAULT}/replicationProtectionIntents",
            f"{paths.FABRIC}/replicationvCenters",
            f"{paths.VAULT}/replicationvCenters",
            f"{paths.VAULT}/replicationAppliances",
            f"{paths.VAULT}/replicationSupportedOperatingSystems",
            f"{paths.VAULT}/privateLinkResources",
            f"{paths.GROUP}{paths.NAMESPACE}/replicationEligibilityResults",
            paths.GROUP
            + "/providers/Microsoft.Compute/virtualMachines/{machine}"
            + "/providers/Microsoft.RecoveryServices/replicationEligibilityResults",
            f"{paths.SUBSCRIPTION}{paths.NAMESPACE}/locations",
            f"{paths.GROUP}{paths.NAMESPACE}/locations",
        )
    ),
)


def not_implemented(says: str) -> Handler:
    """Return the handler of an operation that this version doesn't have."""

    async def refuse(call: Call) -> Answer:
        del call
        raise NotImplementedHereError(says)

    return refuse


def not_supported(says: str) -> Handler:
    """Return the handler of an operation of another kind of replication."""

    async def refuse(call: Call) -> Answer:
        del call
        raise OperationNotSupportedError(says)

    return refuse


async def unknown(call: Call) -> Answer:
    """Say that no operation has this method and path."""
    raise UnknownPathError(
        f"No operation of this interface has the method {call.identity.method} and this path."
        " docs/arm-surface.md lists them all."
    )
