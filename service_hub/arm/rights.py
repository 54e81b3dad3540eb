"""Which right each operation of the surface asks for; what stands in no row cannot be served.

Reading is reading. Everything else is named here: what the original's role Site Recovery Operator
may do asks for `operate`, the rest for `configure`.
"""

from collections.abc import Mapping
from typing import Final

from service_hub.arm import paths
from service_hub.arm.not_offered import LATER, OTHER_REPLICATION
from service_hub.domain.access import Right

_ITEM_VERBS: Final = (
    "testFailover",
    "testFailoverCleanup",
    "plannedFailover",
    "unplannedFailover",
    "failoverCommit",
    "applyRecoveryPoint",
    "failoverCancel",
    "reProtect",
    "repairReplication",
    "resolveHealthErrors",
)
_PLAN_VERBS: Final = (
    "testFailover",
    "testFailoverCleanup",
    "plannedFailover",
    "unplannedFailover",
    "failoverCommit",
    "failoverCancel",
    "reProtect",
)

_OPERATING: Final = (
    *(f"{paths.ITEM}/{verb}" for verb in _ITEM_VERBS),
    *(f"{paths.PLAN}/{verb}" for verb in _PLAN_VERBS),
    *(f"{paths.JOB}/{verb}" for verb in ("cancel", "restart", "resume")),
    f"{paths.PROVIDER}/refreshProvider",
    f"{paths.FABRIC}/checkConsistency",
    f"{paths.CONTAINER}/discoverProtectableItem",
    f"{paths.VAULT_HEALTH}/default/refresh",
)
_CONFIGURING: Final = (
    ("PUT", paths.VAULT),
    ("PUT", paths.ALERT_SETTING),
    ("PATCH", paths.VAULT),
    ("DELETE", paths.VAULT),
    ("PUT", paths.EXTENDED_INFO),
    ("PATCH", paths.EXTENDED_INFO),
    ("DELETE", paths.IDENTITY),
    ("PUT", paths.FABRIC),
    ("PUT", paths.PROVIDER),
    ("PUT", paths.CONTAINER),
    ("POST", f"{paths.CONTAINER}/remove"),
    ("PUT", paths.CERTIFICATE),
    ("PUT", paths.POLICY),
    ("PATCH", paths.POLICY),
    ("DELETE", paths.POLICY),
    ("POST", f"{paths.FABRIC}/remove"),
    ("DELETE", paths.FABRIC),
    ("POST", f"{paths.PROVIDER}/remove"),
    ("DELETE", paths.PROVIDER),
    ("PUT", paths.NETWORK_MAPPING),
    ("PATCH", paths.NETWORK_MAPPING),
    ("DELETE", paths.NETWORK_MAPPING),
    ("PUT", paths.STORAGE_MAPPING),
    ("DELETE", paths.STORAGE_MAPPING),
    ("PUT", paths.MAPPING),
    ("POST", f"{paths.MAPPING}/remove"),
    ("DELETE", paths.MAPPING),
    ("PUT", paths.ITEM),
    ("PATCH", paths.ITEM),
    ("DELETE", paths.ITEM),
    ("POST", f"{paths.ITEM}/remove"),
    ("PUT", paths.PLAN),
    ("PATCH", paths.PLAN),
    ("DELETE", paths.PLAN),
)

_REFUSED: Final = {
    (method, each.path) for each in (*LATER, *OTHER_REPLICATION) for method in each.methods
}
"""What is refused by name changes nothing; still only who may change something is told so."""

_CHANGING: Final[Mapping[tuple[str, str], Right]] = {
    **dict.fromkeys(sorted(_REFUSED), Right.CONFIGURE),
    **{("POST", path): Right.OPERATE for path in _OPERATING},
    **dict.fromkeys(_CONFIGURING, Right.CONFIGURE),
}


def right_of(method: str, path: str) -> Right:
    """Return the right that an operation asks for; LookupError for one that nobody has placed."""
    if method == "GET":
        return Right.READ
    try:
        return _CHANGING[method, path]
    except KeyError:
        raise LookupError(
            f"{method} {path} has no right: say in arm/rights.py who may do it"
        ) from None
