from datetime import timedelta
from typing import Any

import pytest

from service_hub.domain.split_brain import LeftBehind, SourceChanges, choice_of, left_behind
from tests.support.hub_world import BEGIN, machine, replication
from wire_contract.vocabulary import ReplicationMode, ReplicationState

LATER = BEGIN + timedelta(minutes=1)


def copy(**changes: Any) -> Any:
    mode = changes.pop("mode", ReplicationMode.PRIMARY)
    view = replication(ReplicationState.REPLICATING, mode).model_copy(update=changes)
    return machine("m", "tokyo", view)


HOLDER = copy(mode=ReplicationMode.REPLICA, last_cut_record=40)


@pytest.mark.parametrize(
    ("source", "seen_at", "left"),
    [
        (None, None, LeftBehind(seen=False)),
        (copy(last_record=90), BEGIN - timedelta(seconds=1), LeftBehind(seen=False)),
        (copy(last_record=90), LATER, LeftBehind(seen=True, records=50)),
        (copy(last_record=40), LATER, LeftBehind(seen=True, records=0)),
        (copy(last_record=7), LATER, LeftBehind(seen=True, records=0)),
        (copy(tracked_bytes=65536), LATER, LeftBehind(seen=True, changed_bytes=65536)),
        (copy(mode=ReplicationMode.REPLICA, last_record=90), LATER, LeftBehind(seen=True)),
    ],
)
def test_what_the_former_source_alone_holds_is_counted(
    source: Any, seen_at: Any, left: LeftBehind
) -> None:
    assert left_behind(source, HOLDER, seen_at, BEGIN) == left


def test_only_what_may_be_lost_needs_a_choice() -> None:
    assert LeftBehind(seen=False).may_be_lost
    assert "unknown" in LeftBehind(seen=False).words
    assert LeftBehind(seen=True, records=3).may_be_lost
    assert "holds 3 records" in LeftBehind(seen=True, records=3).words
    assert LeftBehind(seen=True, changed_bytes=1).may_be_lost
    assert not LeftBehind(seen=True, records=0).may_be_lost


def test_the_choice_is_keep_discard_or_none() -> None:
    assert choice_of({}) is None
    assert choice_of({"source_changes": "Keep"}) is SourceChanges.KEEP
    with pytest.raises(ValueError, match="Burn"):
        choice_of({"source_changes": "Burn"})
