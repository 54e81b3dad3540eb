from typing import Any

import pytest

from service_hub.domain.drill_networks import (
    TestedMachine,
    environment,
    member_environment,
    network_of_each_nic,
    network_of_machine,
    networks_to_make,
    plan_environment,
    unfit,
    unreachable,
)
from service_hub.domain.errors import InvalidRequestError
from service_hub.domain.network_mapping import NetworkFacts
from service_hub.domain.plan_drills import member_arguments, with_network
from tests.support.many_items import an_item
from tests.support.site_views import machine
from wire_contract.vmm_interface import NetworkView, NicView, SubnetView
from wire_contract.vocabulary import Direction, Side

VIRTUAL, VLAN, PLAIN = "WindowsNetworkVirtualization", "VLANNetwork", "NoIsolation"


def network(network_id: str, network_type: str = VIRTUAL) -> NetworkView:
    return NetworkView(
        network_id=network_id,
        friendly_name=f"name of {network_id}",
        network_type=network_type,
        logical_network_id="logical",
        cloud_ids=(),
        subnets=(SubnetView(name="web", friendly_name="web", address_list=("10.9.0.0/24",)),),
    )


def nic(network_id: str | None, address_type: str = "Static") -> NicView:
    return NicView(nic_id=f"nic of {network_id}", network_id=network_id, address_type=address_type)


@pytest.mark.parametrize(
    ("source", "address", "wanted", "words"),
    [
        (PLAIN, "Static", VIRTUAL, "without isolation"),
        (VLAN, "Dynamic", VIRTUAL, "DHCP"),
        (VLAN, "Static", VIRTUAL, None),
        (VIRTUAL, "Dynamic", VIRTUAL, None),
        (PLAIN, "Dynamic", VLAN, None),
        (PLAIN, "Dynamic", PLAIN, None),
    ],
)
def test_an_existing_network_must_be_of_a_fitting_type(
    source: str, address: str, wanted: str, words: str | None
) -> None:
    found = unfit([(address, network("n", source))], network("t", wanted))
    assert (found is None) == (words is None)
    assert words is None or words in str(found)


def test_one_network_is_made_for_each_that_the_machine_has() -> None:
    nics = [nic("b", "Dynamic"), nic(None), nic("a"), nic("b"), nic("unknown")]
    drill: Any = environment(nics, [network("a"), network("b", VLAN)], "logical")
    assert drill is not None
    made: Any = networks_to_make(drill, "0123456789")
    assert [(each["network_id"], each["like"], each["dynamic_addresses"]) for each in made] == [
        ("0123456789-network-0", VLAN, True),
        ("0123456789-network-1", VIRTUAL, False),
    ]
    assert len({each["name"] for each in made}) == 2
    assert network_of_each_nic(drill, "0123456789") == [
        "0123456789-network-0",
        None,
        "0123456789-network-1",
        "0123456789-network-0",
        None,
    ]
    assert networks_to_make(drill, "0123456789") == made


def test_nothing_is_made_for_a_machine_without_networks() -> None:
    assert environment([nic(None), nic("unknown")], [network("a")], "logical") is None


def test_the_machines_of_a_plan_share_what_is_made() -> None:
    first, second = [nic("b"), nic("a", "Dynamic")], [nic(None), nic("a")]
    networks = [network("a"), network("b", VLAN)]
    shared: Any = plan_environment([first, second, []], networks, "logical")
    assert shared["sources"] == ["b", "a"]
    assert [each["dynamic_addresses"] for each in shared["networks"]] == [False, True]
    own: Any = member_environment(shared, first, "plan-job")
    other: Any = member_environment(shared, second, "plan-job")
    assert network_of_each_nic(own, "t1") == ["plan-job-network-0", "plan-job-network-1"]
    assert network_of_each_nic(other, "t2") == [None, "plan-job-network-1"]
    made: Any = networks_to_make(own, "t1")
    assert networks_to_make(other, "t2") == made[1:]
    assert set(made[0]) == {"network_id", "name", "like", "dynamic_addresses", "subnets"}
    assert member_environment(shared, [nic(None), nic("gone")], "plan-job") is None
    assert plan_environment([[nic(None)], []], networks, "logical") is None


AWAY = Direction.PRIMARY_TO_RECOVERY


@pytest.mark.parametrize(
    ("source", "replica", "words"),
    [
        ("virtual", None, None),
        ("plain", None, "without isolation"),
        # Where a network mapping connects the replica, its network counts (behaviour.md, 2.8).
        ("plain", ("mapped", "Dynamic"), None),
        ("virtual", ("flat", "Static"), "without isolation"),
        ("virtual", ("vlan", "Dynamic"), "DHCP"),
        ("virtual", ("vlan", "Static"), None),
        ("plain", (None, "Dynamic"), "without isolation"),
    ],
)
def test_a_machine_is_tested_in_a_network_that_fits_where_its_replica_is(
    source: str, replica: tuple[str | None, str] | None, words: str | None
) -> None:
    sides = {
        Side.PRIMARY: [network("virtual"), network("plain", PLAIN)],
        Side.RECOVERY: [TARGET, network("mapped"), network("flat", PLAIN), network("vlan", VLAN)],
    }
    replicas = () if replica is None else (nic(*replica),)
    tested = TestedMachine(an_item(1), (nic(source),), replicas)
    named = {"network_id": "T", "logical": False}
    if words is None:
        assert network_of_machine(named, AWAY, sides, tested) == {"network_id": "t"}
        return
    with pytest.raises(InvalidRequestError, match=f"25080: web01: .*{words}"):
        network_of_machine(named, AWAY, sides, tested)


def test_a_machine_is_tested_where_its_cloud_reaches_the_network_or_in_one_of_its_own() -> None:
    apart = TARGET.model_copy(update={"cloud_ids": ("other",)})
    sides = {Side.PRIMARY: [network("a")], Side.RECOVERY: [apart]}
    tested = TestedMachine(an_item(1), (nic("a"),))
    with pytest.raises(InvalidRequestError, match=r"7004: web01: .* not available to the cloud"):
        network_of_machine({"network_id": "t", "logical": False}, AWAY, sides, tested)
    with pytest.raises(InvalidRequestError, match="7004: The server has no VM network 'x'"):
        network_of_machine({"network_id": "x", "logical": False}, AWAY, sides, tested)
    made: Any = network_of_machine({"network_id": "l", "logical": True}, AWAY, sides, tested)
    assert (made["network_id"], made["drill"]["nics"]) == (None, [0])
    alone = TestedMachine(an_item(1), (nic(None),))
    with pytest.raises(InvalidRequestError, match="connected to no network"):
        network_of_machine({"network_id": "l", "logical": True}, AWAY, sides, alone)


TARGET = network("t").model_copy(update={"cloud_ids": ("osaka-cloud",)})


def asked(network_id: str, *, logical: bool = False) -> dict[str, Any]:
    named = {"fabric": "osaka", "network_id": network_id, "logical": logical}
    return {"failover_direction": "PrimaryToRecovery", "test_network": named}


def found(arguments: dict[str, Any], *nics: NicView, target: NetworkView = TARGET) -> Any:
    networks = {Side.PRIMARY: [network("a"), network("p", PLAIN)], Side.RECOVERY: [target]}
    machines = [TestedMachine(an_item(1), nics), TestedMachine(an_item(2), ())]
    return with_network(arguments, AWAY, networks, machines)


def test_a_plan_is_tested_in_a_network_that_fits_all_its_machines() -> None:
    ahead = {"failover_direction": "PrimaryToRecovery"}
    assert found({**ahead, "network_id": None}) == {**ahead, "network_id": None}
    assert found(asked("T"), nic("a")) == {**ahead, "network_id": "t"}
    with pytest.raises(InvalidRequestError, match="7004: The server has no VM network 'x'"):
        found(asked("x"), nic("a"))
    with pytest.raises(InvalidRequestError, match=r"25080: web01: .* without isolation"):
        found(asked("t"), nic("p"))
    apart = TARGET.model_copy(update={"cloud_ids": ("other",)})
    with pytest.raises(InvalidRequestError, match=r"7004: web01: .* not available to the cloud"):
        found(asked("t"), nic("a"), target=apart)
    assert unreachable(TARGET, "osaka-cloud") is None
    with pytest.raises(InvalidRequestError, match="No machine of the plan is connected"):
        found(asked("l", logical=True), nic(None))


def test_each_machine_of_a_plan_gets_its_part_of_what_is_made() -> None:
    shared = found(asked("l", logical=True), nic("a"), nic(None))
    assert (shared["network_id"], shared["drill"]["sources"]) == (None, ["a"])
    assert shared["drill"]["cloud_ids"] == ["osaka-cloud"]
    copy = machine("m", "tokyo").model_copy(update={"nics": (nic("a"),)})
    facts = NetworkFacts(primary_machine=copy)
    drill: Any = member_arguments(shared, facts, AWAY, "job")["drill"]
    assert (drill["environment"], drill["nics"]) == ("job", [0])
    by_plan: Any = {"drill": {"sources": ["a"], "made": True}}
    only_connected = {"nics": [0], "environment": "job", "made": True}
    assert member_arguments(by_plan, facts, AWAY, "job")["drill"] == only_connected
    assert "drill" not in member_arguments(shared, NetworkFacts(), AWAY, "job")
    assert member_arguments(drill, facts, AWAY, "job") is drill
