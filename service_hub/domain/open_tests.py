"""How long a test failover may stay open; pure.

A test machine takes room and, with a network, an address: after two weeks the hub ends the test
itself, as an operator's clean-up would (behaviour.md, 2.10).
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from service_hub.domain.protection import Operation, ProtectionState
from service_hub.domain.records import ProtectedItem

OPEN_MAX: Final = timedelta(days=14)
"""How long a test may stay open."""

OPERATION: Final = Operation.TEST_FAILOVER_CLEANUP
"""What ends it."""


@dataclass(frozen=True, slots=True)
class OverdueTest:
    """A test that is to be ended now, and since when."""

    item: ProtectedItem
    due_at: datetime


def ends_at(item: ProtectedItem) -> datetime | None:
    """Return when the item's open test is ended by the hub, None while none is open or it ends."""
    if item.state is not ProtectionState.TEST_OPEN or item.current is not None:
        return None
    opened_at = item.test_opened_at or item.last_test_failover_at
    return opened_at + OPEN_MAX if opened_at is not None else None


def overdue(items: Iterable[ProtectedItem], now: datetime) -> list[OverdueTest]:
    """Return the tests whose time is over, the longest overdue first."""
    due = ((item, ends_at(item)) for item in items)
    found = [OverdueTest(item, at) for item, at in due if at is not None and at <= now]
    return sorted(found, key=lambda each: (each.due_at, each.item.id))


def waiting_for(item: ProtectedItem) -> str | None:
    """In words, what an open test waits for, since when, and what ends it; None without one."""
    at = ends_at(item)
    if at is None:
        return None
    since = f"{at - OPEN_MAX:%Y-%m-%dT%H:%M:%SZ}"
    return (
        f"waiting for the clean-up of the test failover since {since}; can be ended by"
        f" {OPERATION.value}, and is ended by the hub at {at:%Y-%m-%dT%H:%M:%SZ}"
    )
