"""Recovery points of a replica; pure (behaviour.md, 1.7)."""

from collections.abc import Iterable

from wire_contract.vmm_interface import RecoveryPointView

APPLICATION_CONSISTENT = "application_consistent"
"""The word of a fabric for a point whose guest was made ready for it."""


def newest_application_consistent(points: Iterable[RecoveryPointView]) -> RecoveryPointView | None:
    """Return the newest application-consistent point, None where there is none."""
    fit = (each for each in points if each.kind == APPLICATION_CONSISTENT)
    return max(fit, key=lambda point: point.taken_at, default=None)
