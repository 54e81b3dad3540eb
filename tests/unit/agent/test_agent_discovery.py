from typing import Any

import pytest

from provider_agent.domain.discovery import differences
from tests.unit.agent.agent_views import host, inventory, machine, replication
from wire_contract.vmm_interface import ClusterView, HostGroupView

HOST_GROUP = HostGroupView(
    host_group_id="group", friendly_name="group", path="All Hosts", host_count=1, machine_count=1
)


def test_at_the_start_every_followed_machine_is_reported_and_no_other() -> None:
    free = machine(machine_id="free", protected_item=None)
    copy = machine(machine_id="copy", protected_item=None, test_machine_of="machine-1")
    found = differences({}, None, inventory(machine(), free, copy))
    assert [each.machine_id for each in found.changed] == ["machine-1", "copy"]
    assert found.structural


def test_nothing_is_reported_of_a_fabric_that_stands_still() -> None:
    now = inventory(machine(replication=replication()))
    found = differences({"machine-1": now.machines[0]}, now, now)
    assert (found.changed, found.structural, found.confirmation_lost) == ((), False, False)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({}, {"run_state": "Running"}),
        ({}, {"fenced": True}),
        ({}, {"epoch": 3}),
        ({}, {"protected_item": None}),
        ({}, {"replication": replication()}),
        ({"replication": replication()}, {"replication": replication(state=4)}),
        ({"replication": replication()}, {"replication": replication(mode="Replica")}),
        ({"replication": replication()}, {"replication": replication(health="Critical")}),
        ({"replication": replication()}, {}),
    ],
)
def test_what_matters_to_the_hub_is_reported(before: Any, after: Any) -> None:
    former, present = machine(**before), machine(**after)
    found = differences({former.machine_id: former}, inventory(former), inventory(present))
    assert found.changed == (present,)


def test_small_steps_of_progress_add_up() -> None:
    reported = machine(replication=replication(state=2, progress_percent=10.0))
    step = machine(replication=replication(state=2, progress_percent=14.0))
    enough = machine(replication=replication(state=2, progress_percent=15.0))
    known = {reported.machine_id: reported}
    assert differences(known, inventory(reported), inventory(step)).changed == ()
    assert differences(known, inventory(step), inventory(enough)).changed == (enough,)


def test_cycles_that_go_by_are_not_news() -> None:
    former = machine(replication=replication(last_cut=7))
    present = machine(replication=replication(last_cut=8, transferred_bytes=99))
    known = {former.machine_id: former}
    found = differences(known, inventory(former), inventory(present))
    assert (found.changed, found.structural) == ((), False)


@pytest.mark.parametrize(
    "after",
    [
        inventory(machine(), machine(machine_id="new", protected_item=None)),
        inventory(),
        inventory(machine(name="renamed")),
        inventory(machine(), hosts=(host(replica_port=8083),)),
        inventory(machine(), clouds=()),
        inventory(machine(), clusters=(ClusterView(name="cluster", addressing="DHCP"),)),
        inventory(machine(), host_groups=(HOST_GROUP,)),
    ],
)
def test_a_change_of_the_estate_asks_for_the_whole_inventory(after: Any) -> None:
    before = inventory(machine())
    assert differences({"machine-1": before.machines[0]}, before, after).structural


def test_order_is_no_change() -> None:
    one, two = machine(), machine(machine_id="machine-2")
    known = {"machine-1": one, "machine-2": two}
    found = differences(known, inventory(one, two), inventory(two, one))
    assert (found.changed, found.structural) == ((), False)


def test_a_host_that_restarted_between_two_looks_is_noticed() -> None:
    before, after = inventory(machine()), inventory(machine(epoch_confirmed=False))
    assert differences({}, before, after).confirmation_lost
    assert not differences({}, after, after).confirmation_lost
    free = machine(protected_item=None, epoch_confirmed=False)
    assert not differences({}, before, inventory(free)).confirmation_lost
