"""What speaks against a failover of an item, and what an unplanned one left behind: health entries.

161011 is recorded (recorded.md, section 0: about 4.7 hours after protection began, a matter of
failoverHealth alone); a test is recommended every six months (behaviour.md, 2.8). The entries about
two copies are ours (architecture, decision 4).
"""

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any, Final

from service_hub.arm.times import fine_time
from service_hub.domain.protection import ProtectionState
from service_hub.domain.split_brain import FAILED_OVER_UNPLANNED, left_behind
from service_hub.ports.use_cases import ItemFacts
from wire_contract.vocabulary import RunState, Side

NEVER_TESTED_AFTER: Final = timedelta(hours=4)
"""How long a machine may be protected before a missing test counts."""

TEST_RECOMMENDED_AFTER: Final = timedelta(days=182)
"""Six months."""

_GIVEN_BACK: Final = frozenset({ProtectionState.UNPLANNED_UNDO_FAILED, ProtectionState.OVERRIDDEN})
"""The source has the authority again, whatever became of the copy that had it meanwhile."""

_VALIDATOR: Final = ("ReplicationUnitFailoverValidatorError", "TestFailoverValidator")
_TWO_COPIES: Final = ("ReplicationUnitProviderErrorOnPrimary", "SplitBrain")


def failover_errors(facts: ItemFacts, now: datetime) -> list[dict[str, Any]]:
    """Return what a test failover would show, or has not been asked to show for long."""
    item, name = facts.item, facts.item.friendly_name
    if item.state is not ProtectionState.PROTECTED or item.protected_at is None:
        return []
    tested = item.last_test_failover_at
    if tested is None and now - item.protected_at >= NEVER_TESTED_AFTER:
        since = item.protected_at + NEVER_TESTED_AFTER
        words = f"No successful test failover has been done on the virtual machine '{name}'."
        return [_body(_VALIDATOR, "161011", "Error", words, _RUN_ONE, since, item.id)]
    if tested is not None and now - tested >= TEST_RECOMMENDED_AFTER:
        since = tested + TEST_RECOMMENDED_AFTER
        words = (
            f"A test failover of the virtual machine '{name}' is recommended: the last successful"
            " one is more than six months ago."
        )
        return [_body(_VALIDATOR, "90043", "Warning", words, _RUN_ONE, since, item.id)]
    return []


def split_brain_errors(facts: ItemFacts, now: datetime) -> list[dict[str, Any]]:
    """Return what is to be known of the former source after an unplanned failover."""
    item = facts.item
    if item.state in _GIVEN_BACK:
        return _copy_left_behind(facts)
    if item.state not in FAILED_OVER_UNPLANNED:
        return []
    former_side = item.active_location.other
    primary = former_side is Side.PRIMARY
    former = facts.primary_machine if primary else facts.recovery_machine
    holder = facts.recovery_machine if primary else facts.primary_machine
    server = facts.primary if primary else facts.recovery
    left = left_behind(
        None if former is None else former.machine,
        None if holder is None else holder.machine,
        None if former is None else former.observed_at,
        item.last_failover_at,
    )
    name, where = item.friendly_name, server.provider.vmm_fqdn
    since = item.last_failover_at or now
    if not left.seen:
        words = (
            f"The former source of '{name}' at {where} has not shown itself since the failover and"
            " may still run: two copies may be running until its server is in contact again."
        )
        return [_body(_TWO_COPIES, "90041", "Warning", words, _STOP_IT, since, item.id)]
    if former is not None and former.machine.fenced:
        words = f"The former source of '{name}' at {where} is stopped and fenced; {left.words}."
        return [_body(_TWO_COPIES, "90042", "Warning", words, _RECONCILE, since, item.id)]
    return []


def _copy_left_behind(facts: ItemFacts) -> list[dict[str, Any]]:
    """Return that the copy which lost the authority was last seen running, until it is seen off."""
    item = facts.item
    primary = item.active_location.other is Side.PRIMARY
    left = facts.primary_machine if primary else facts.recovery_machine
    server = facts.primary if primary else facts.recovery
    if left is None or left.machine.fenced or left.machine.run_state is RunState.OFF:
        return []
    words = (
        f"The other copy of '{item.friendly_name}' at {server.provider.vmm_fqdn} was last seen"
        " running and may still run: it is stopped and fenced once its server is in contact."
    )
    return [_body(_TWO_COPIES, "90118", "Warning", words, _STOP_IT, left.observed_at, item.id)]


def failover_health(errors: Iterable[dict[str, Any]]) -> str:
    """Return `failoverHealth`: Critical with any Error."""
    levels = {error["errorLevel"] for error in errors}
    return "Critical" if "Error" in levels else "Warning" if levels else "Normal"


_RUN_ONE: Final = "Run a test failover and clean it up."
_STOP_IT: Final = (
    "Bring the server back into contact: the copy is then stopped and fenced. Until then keep users"
    " away from it, or turn it off there."
)
_RECONCILE: Final = (
    "Reverse the replication, with sourceChanges Keep to set its disks aside, or Discard."
)


def _body(  # noqa: PLR0917 -- the columns of one entry
    kind: tuple[str, str],
    code: str,
    level: str,
    message: str,
    action: str,
    since: datetime,
    entity: str,
) -> dict[str, Any]:
    source, error_type = kind
    return {
        "errorSource": source,
        "errorType": error_type,
        "errorLevel": level,
        "errorCategory": "Replication",
        "errorCode": code,
        "errorMessage": message,
        "possibleCauses": "",
        "recommendedAction": action,
        "creationTimeUtc": fine_time(since),
        "recoveryProviderErrorMessage": None,
        "entityId": entity,
        "innerHealthErrors": [],
    }
