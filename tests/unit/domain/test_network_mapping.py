"""Network mapping's rules (behaviour 2.5): offers, subnets, adapters forth and back."""

from datetime import UTC, datetime

import pytest

from service_hub.domain import errors
from service_hub.domain.mapping_records import NetworkMapping
from service_hub.domain.network_mapping import (
    NetworkFacts,
    mapped_networks,
    mapped_to,
    offers,
    pairs_of,
    placed_adapters,
    refusal_of_mapping,
    replica_adapter_id,
    replica_adapters,
    returned_adapters,
    target_subnet,
)
from service_hub.domain.protection import ProtectionState
from service_hub.domain.records import AttachedAdapter, ContainerMapping, ProtectedItem
from tests.support.site_views import machine
from wire_contract.vmm_interface import MachineView, NetworkView, NicView, SubnetView

NOW = datetime(2026, 1, 1, tzinfo=UTC)
GOLD, SILVER, GOLD2, SILVER2 = "gold", "silver", "gold2", "silver2"
ITEM = ProtectedItem(
    id="vm",
    vault_id="v",
    friendly_name="web01",
    mapping_id="m",
    policy_id="p",
    primary_provider_id="tokyo",
    primary_cloud_id=GOLD,
    primary_machine_id="vm",
    primary_host="host1",
    recovery_provider_id="osaka",
    recovery_cloud_id=GOLD2,
    recovery_machine_id="replica",
    relationship_id="r",
    state=ProtectionState.PROTECTED,
)


def network(network_id: str, *clouds: str, subnets: tuple[str, ...] = ()) -> NetworkView:
    return NetworkView(
        network_id=network_id,
        friendly_name=network_id,
        network_type="NoIsolation",
        logical_network_id=f"of-{network_id}",
        cloud_ids=clouds,
        subnets=tuple(SubnetView(name=each, friendly_name=each) for each in subnets),
    )


def pair(primary: str, recovery: str) -> ContainerMapping:
    return ContainerMapping(
        id=f"{primary}/{recovery}",
        vault_id="v",
        name=primary,
        policy_id="p",
        primary_provider_id="tokyo",
        primary_cloud_id=primary,
        recovery_provider_id="osaka",
        recovery_cloud_id=recovery,
        mapping_state="Paired",
    )


def mapping(source: str, target: str) -> NetworkMapping:
    return NetworkMapping(
        id=f"{source}/{target}",
        vault_id="v",
        name=source,
        primary_provider_id="tokyo",
        primary_network_id=source,
        recovery_provider_id="osaka",
        recovery_network_id=target,
    )


def with_nics(*nics: NicView) -> MachineView:
    return machine("vm", "tokyo").model_copy(update={"nics": nics})


PAIRS = (pair(GOLD, GOLD2), pair(SILVER, SILVER2))
CORP = network("corp", GOLD, SILVER)


def test_the_documented_example_a_network_is_offered_for_gold_and_shown_for_silver() -> None:
    (offer,) = offers(CORP, PAIRS, (network("corp2", GOLD2),))
    shown = {each.primary_cloud_id: each.available for each in offer.clouds}
    assert shown == {GOLD: True, SILVER: False}
    assert offer.is_offered


@pytest.mark.parametrize(
    ("source", "target", "pairs", "code"),
    [
        (CORP, network("corp2", GOLD2, SILVER2), PAIRS, None),
        (CORP, network("corp2", GOLD2), PAIRS, None),  # for one of the two
        (CORP, network("corp2", "elsewhere"), PAIRS, errors.NETWORK_NOT_OFFERED),
        (CORP, network("corp2", GOLD2), (), errors.NETWORK_NOT_OFFERED),
        (network("lab", "bronze"), network("l2", GOLD2), PAIRS, errors.NETWORK_NOT_OFFERED),
        (None, network("corp2", GOLD2), PAIRS, errors.NETWORK_MISSING),
        (CORP, None, PAIRS, errors.NETWORK_MISSING),
    ],
)
def test_only_what_is_offered_may_be_mapped(
    source: NetworkView | None,
    target: NetworkView | None,
    pairs: tuple[ContainerMapping, ...],
    code: str | None,
) -> None:
    error = refusal_of_mapping(source, target, pairs, NOW)
    assert (None if error is None else error.code) == code
    assert error is None or "{" not in f"{error.message}{error.possible_causes}"


@pytest.mark.parametrize(
    ("subnets", "own", "chosen"),
    [
        (("front", "back"), "back", "back"),
        (("front", "back"), "third", "front"),
        (("front", "back"), None, "front"),
        ((), "back", None),
    ],
)
def test_the_subnet_of_the_same_name_else_the_first(
    subnets: tuple[str, ...], own: str | None, chosen: str | None
) -> None:
    assert target_subnet(network("corp2", subnets=subnets), own) == chosen


FACTS = NetworkFacts(
    mappings=(mapping("corp", "corp2"), mapping("lab", "lab2"), mapping("far", "gone")),
    primary=(CORP, network("lab", GOLD), network("dmz", GOLD)),
    recovery=(network("corp2", GOLD2, subnets=("front", "back")), network("lab2", SILVER2)),
)


@pytest.mark.parametrize(
    ("network_id", "found"),
    [
        ("corp", "corp2"),
        ("lab", None),  # mapped, but not available in the item's cloud
        ("far", None),  # what it was mapped to is gone
        ("dmz", None),  # not mapped
        (None, None),
    ],
)
def test_a_replica_gets_the_mapped_network_where_its_cloud_has_it(
    network_id: str | None, found: str | None
) -> None:
    target = mapped_to(network_id, GOLD2, FACTS)
    assert (None if target is None else target.network_id) == found


STATIC = NicView(
    nic_id="a", network_id="corp", subnet="back", address_type="Static", address="10.1.0.7"
)
LOOSE = NicView(nic_id="b", network_id="dmz", synthetic=False)


def test_a_failover_connects_what_is_mapped_and_leaves_the_rest_apart() -> None:
    facts = NetworkFacts(
        FACTS.mappings, FACTS.primary, FACTS.recovery, primary_machine=with_nics(STATIC, LOOSE)
    )
    first, second = replica_adapters(ITEM, facts)
    assert first == {
        "nic_id": replica_adapter_id("replica", "a"),
        "network_id": "corp2",
        "subnet": "back",
        "address_type": "Static",
        "address": "10.1.0.7",
        "synthetic": True,
    }
    assert (second["network_id"], second["synthetic"]) == (None, False)
    assert mapped_networks(ITEM, facts) == ("corp2",)
    placed = [each["nic_id"] for each in placed_adapters(ITEM, facts)]
    assert placed == [first["nic_id"], second["nic_id"]]


def test_the_replicas_adapter_has_a_guid_of_its_own() -> None:
    ids = {replica_adapter_id(m, n) for m in ("replica", "other") for n in ("a", "b")}
    assert len(ids) == 4
    assert replica_adapter_id("Replica", "A") == replica_adapter_id("replica", "a")
    assert [len(part) for part in replica_adapter_id("replica", "a").split("-")] == [8, 4, 4, 4, 12]


REPLICA_NIC = replica_adapter_id("replica", "a")
MOVED = (mapping("corp", "corp2"), mapping("lab", "lab2"))
REMAPPED = (mapping("lab", "corp2"),)


@pytest.mark.parametrize(
    ("own", "attached", "replica", "mappings", "returned"),
    [
        # Nobody changed the replica: the source's adapter stays as it is.
        ("corp", "corp2", "corp2", MOVED, "stays"),
        ("corp", None, None, (), "stays"),  # never mapped, never connected
        ("corp", "corp2", "corp2", (), "stays"),  # the map was removed, the adapter was not moved
        # Disconnected there: disconnected here.
        ("corp", "corp2", None, MOVED, None),
        # Moved to a network that has a map: the network that is mapped to it.
        ("corp", "corp2", "lab2", MOVED, "lab"),
        # Moved to one without: disconnected.
        ("corp", "corp2", "dmz2", MOVED, None),
        # The map was changed meanwhile: the new one is followed.
        ("corp", "corp2", "corp2", REMAPPED, "lab"),
    ],
)
def test_the_failback_table(
    own: str,
    attached: str | None,
    replica: str | None,
    mappings: tuple[NetworkMapping, ...],
    returned: str | None,
) -> None:
    item = ITEM.model_copy(
        update={"adapters": (AttachedAdapter(nic_id=REPLICA_NIC, network_id=attached),)}
    )
    facts = NetworkFacts(
        mappings,
        FACTS.primary,
        FACTS.recovery,
        primary_machine=with_nics(NicView(nic_id="a", network_id=own)),
        recovery_machine=with_nics(NicView(nic_id=REPLICA_NIC, network_id=replica)),
    )
    changes = returned_adapters(item, facts)
    if returned == "stays":
        assert changes == ()
    else:
        (change,) = changes
        assert (change["nic_id"], change["network_id"]) == ("a", returned)


def test_an_adapter_that_the_replica_never_had_stays() -> None:
    facts = NetworkFacts(MOVED, FACTS.primary, FACTS.recovery, primary_machine=with_nics(STATIC))
    assert returned_adapters(ITEM, facts) == ()


def test_a_replica_that_was_there_before_has_adapters_of_its_own() -> None:
    primary = with_nics(STATIC, LOOSE)
    theirs = with_nics(NicView(nic_id="x", network_id=None), NicView(nic_id="y", network_id=None))
    assert pairs_of("replica", primary, theirs) == {"a": "x", "b": "y"}
    one = with_nics(NicView(nic_id="x", network_id=None))
    made = replica_adapter_id("replica", "b")
    assert pairs_of("replica", primary, one) == {"a": "x", "b": made}
    ours = with_nics(NicView(nic_id=made, network_id=None), NicView(nic_id="x", network_id=None))
    assert pairs_of("replica", primary, ours) == {"a": "x", "b": made}
    assert pairs_of("replica", primary, None)["a"] == REPLICA_NIC
