"""A paused copy goes on when somebody resumes it: the hub counts it among those that run."""

import pytest

from service_hub.domain.authority import warnings_of
from service_hub.domain.restore import agrees
from tests.support.many_items import an_item
from tests.support.site_views import machine, replication
from wire_contract.vmm_interface import MachineView
from wire_contract.vocabulary import ReplicationMode, ReplicationState, RunState, Side


def copy(site: str, run_state: RunState, mode: ReplicationMode) -> MachineView:
    view = machine(f"{site}-1", site, replication(ReplicationState.REPLICATING, mode))
    return view.model_copy(update={"run_state": run_state})


@pytest.mark.parametrize(
    ("holder", "partner", "agreed"),
    [
        (RunState.RUNNING, RunState.OFF, True),
        (RunState.PAUSED, RunState.OFF, True),
        (RunState.OFF, RunState.OFF, False),
        (RunState.RUNNING, RunState.PAUSED, False),
        (RunState.PAUSED, RunState.PAUSED, False),
    ],
)
def test_a_restored_hub_takes_no_copy_beside_a_paused_one(
    holder: RunState, partner: RunState, agreed: bool
) -> None:
    views = {
        Side.PRIMARY: copy("tokyo", holder, ReplicationMode.REPLICA),
        Side.RECOVERY: copy("osaka", partner, ReplicationMode.REPLICA),
    }
    assert agrees(Side.PRIMARY, views) is agreed


def test_an_operator_hears_that_a_copy_is_paused() -> None:
    views = {
        Side.PRIMARY: copy("tokyo", RunState.PAUSED, ReplicationMode.PRIMARY),
        Side.RECOVERY: copy("osaka", RunState.PAUSED, ReplicationMode.REPLICA),
    }
    words = warnings_of(an_item(1), Side.PRIMARY, views)
    assert "the copy at Primary is paused" in words
    assert any(each.startswith("the copy at Recovery is paused: it is stopped") for each in words)
