"""What there is to be killed in the middle of after an operator's override of a fence.

The former source runs again while its replica is failed over: a planned failover takes that back
and has the two compared before it shuts anything down. From there the way back, too.
"""

from collections.abc import Iterator
from typing import Final

from service_hub.domain.protection import Operation, ProtectionState
from tests.support.kill_stories import Story, asking, rests_in

OVERRIDDEN: Final = "OverrideFence of UnplannedFailoverCommitPendingStatesBegin"
_WAY: Final = (
    ("planned failover", Operation.PLANNED_FAILOVER, ProtectionState.PLANNED_FAILED_OVER),
    ("reversal", Operation.REVERSE_REPLICATE, ProtectionState.PROTECTED),
    ("failback", Operation.PLANNED_FAILOVER, ProtectionState.PLANNED_FAILED_OVER),
)


def override_stories() -> Iterator[Story]:
    """Return the stories, each built on the one before; their tasks are those of others."""
    before = OVERRIDDEN
    for words, operation, rest in _WAY:
        name = f"{words} after an override"
        yield Story(name, before, frozenset(), asking(operation), rests_in(rest), is_repeat=True)
        before = name
