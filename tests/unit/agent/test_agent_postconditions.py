"""The post-condition of every verb: what holds, and each lie that must be found.

Over 400 lines because it is one table with a case for each verb.
"""

from dataclasses import replace
from typing import Any

import pytest

from provider_agent.domain.postconditions import unmet
from provider_agent.domain.read_back import Expected, ReadBack
from tests.unit.agent.adapter_cases import ADAPTERS, AS_ASKED, UNLIKE
from tests.unit.agent.agent_views import (
    CLOUD_ID,
    HOST,
    MACHINE_ID,
    NONCE,
    cloud,
    guest,
    host,
    machine,
    replication,
)
from wire_contract.vmm_interface import InventoryView, NetworkView, VmmView
from wire_contract.vocabulary import CLOUD_VERBS, FABRIC_VERBS, SERVER_VERBS, Verb

PEER = {
    "relationship_id": "relationship-1",
    "replica_machine_id": "machine-2",
    "replica_host": "osaka-hyperv-1.example",
    "replica_port": 8084,
}


LATER = "2026-01-02T00:00:00Z"
POINT = {"point_id": "point-1", "taken_at": "2026-01-01T00:00:00Z", "kind": "standard"}


def of(**changes: Any) -> ReadBack:
    return ReadBack(machine=machine(**changes))


def replicating(**changes: Any) -> ReadBack:
    return of(replication=replication(**changes))


def of_cloud(*hosts: Any, **changes: Any) -> ReadBack:
    return ReadBack(cloud=cloud(**changes), hosts=hosts or (host(),))


SERVER_ID = "server-1"

SETTINGS: dict[str, Any] = {
    "interval_seconds": 30,
    "recovery_points": 20,
    "application_consistent_hours": 2,
    "compression": True,
    "authentication": "certificate",
    "replica_port": 8084,
}


def of_settings(version: str = "2012R2", **changes: Any) -> ReadBack:
    """Return a cloud whose one relationship was set as asked, but for these changes."""
    settings = {name: value for name, value in SETTINGS.items() if name != "replica_port"}
    given: dict[str, Any] = {"settings": settings | changes}
    if changes.keys() & {"peer_port", "settings"}:
        given = {"settings": settings, **changes}
    set_so = machine(replication=replication(**given))
    return ReadBack(
        cloud=cloud(), hosts=(host(version=version),), machines=(machine(name="other"), set_so)
    )


def test_a_host_of_2012_has_its_own_interval_and_fewer_points() -> None:
    expected = Expected(Verb.UPDATE_REPLICATION, CLOUD_ID, arguments=SETTINGS)
    assert unmet(expected, of_settings("2012", interval_seconds=300, recovery_points=15)) is None
    assert unmet(expected, of_settings("2012")) == (
        "machine database: interval_seconds is 30, not 300"
    )


def test_more_points_that_were_set_at_a_machine_stay() -> None:
    expected = Expected(Verb.UPDATE_REPLICATION, CLOUD_ID, arguments=SETTINGS)
    seen = of_settings(recovery_points=24)
    own = machine(recovery_points=24, replication=seen.machines[1].replication)
    assert unmet(expected, replace(seen, machines=(own,))) is None
    fewer = own.model_copy(update={"recovery_points": 1})
    assert unmet(expected, replace(seen, machines=(fewer,))) is not None


def test_relationships_that_are_not_named_may_be_set_otherwise() -> None:
    named = {**SETTINGS, "relationship_ids": ["another"]}
    expected = Expected(Verb.UPDATE_REPLICATION, CLOUD_ID, arguments=named)
    assert unmet(expected, of_settings(interval_seconds=900)) is None


def network(**changes: Any) -> NetworkView:
    given = {
        "network_id": "network-1",
        "friendly_name": "network - Test",
        "network_type": "NoIsolation",
        "logical_network_id": "logical-1",
        "cloud_ids": (),
        "test_of": "test-1",
        **changes,
    }
    return NetworkView.model_validate(given)


def of_server(
    cloud_changes: Any,
    host_changes: Any,
    vmm_id: str = SERVER_ID,
    networks: tuple[NetworkView, ...] = (),
) -> ReadBack:
    bare_cloud = {"paired_role": "", "partner_cloud_id": None, **cloud_changes}
    bare_host = {"replica_enabled": False, "certificate_thumbprint": None, **host_changes}
    return ReadBack(
        inventory=InventoryView(
            vmm=VmmView(vmm_id=vmm_id, fqdn="vmm.example", version="3.2"),
            clouds=(cloud(**bare_cloud),),
            hosts=(host(**bare_host),),
            networks=networks,
            classifications=(),
            machines=(),
        )
    )


def target_of(verb: Verb) -> str:
    if verb in SERVER_VERBS:
        return SERVER_ID
    return CLOUD_ID if verb in CLOUD_VERBS else MACHINE_ID


# verb, arguments, what holds, and what each must be refused for.
CASES: list[tuple[Verb, dict[str, Any], ReadBack, list[ReadBack]]] = [
    (
        Verb.CONFIGURE_HOSTS,
        {},
        of_cloud(),
        [
            of_cloud(host(certificate_thumbprint=None)),
            of_cloud(host(certificate_thumbprint="bb22")),
            of_cloud(host(fqdn="other.example")),
            of_cloud(host(), host_fqdns=(HOST, "second.example")),
            of_cloud(host_fqdns=()),
        ],
    ),
    (
        Verb.PREPARE_CLOUD,
        {"replica_port": 8084, "allowed_primaries": ["a.example"]},
        of_cloud(),
        [
            of_cloud(host(replica_enabled=False)),
            of_cloud(host(replica_port=8083)),
            of_cloud(host(allowed_primaries=("b.example",))),
            of_cloud(host(), host_fqdns=(HOST, "second.example")),
            of_cloud(host_fqdns=()),
        ],
    ),
    (
        Verb.PAIR_CLOUD,
        {"role": "Primary", "partner_cloud_id": "cloud-2"},
        of_cloud(),
        [of_cloud(paired_role=""), of_cloud(partner_cloud_id=None)],
    ),
    (
        Verb.UPDATE_REPLICATION,
        SETTINGS,
        of_settings(),
        [
            of_settings(interval_seconds=300),
            of_settings(recovery_points=0),
            of_settings(application_consistent_hours=0),
            of_settings(compression=False),
            of_settings(authentication="kerberos"),
            of_settings(peer_port=8083),
            of_settings(settings=None),
        ],
    ),
    (
        Verb.UNPAIR_CLOUD,
        {"partner_cloud_id": "cloud-2"},
        of_cloud(paired_role="", partner_cloud_id=None),
        [of_cloud(), of_cloud(paired_role=""), of_cloud(partner_cloud_id=None)],
    ),
    (
        Verb.CLEAN_UP,
        {},
        of_server({}, {}),
        [
            of_server({"paired_role": "Primary"}, {}),
            of_server({"partner_cloud_id": "cloud-2"}, {}),
            of_server({}, {"replica_enabled": True}),
            of_server({}, {"certificate_thumbprint": "AA11"}),
            of_server({}, {}, vmm_id="server-2"),
        ],
    ),
    (
        Verb.CREATE_TEST_NETWORKS,
        {"networks": [{"network_id": "network-1"}], "test_machine_id": "test-1"},
        of_server({}, {}, networks=(network(test_of="plan-1", test_users=("test-1",)),)),
        [
            of_server({}, {}),
            of_server({}, {}, networks=(network(network_id="x"),)),
            of_server({}, {}, networks=(network(test_of="plan-1", test_users=("test-2",)),)),
        ],
    ),
    (
        Verb.REMOVE_TEST_NETWORKS,
        {"test_machine_id": "test-1"},
        of_server({}, {}, networks=(network(test_of="plan-1", test_users=("test-2",)),)),
        [
            of_server({}, {}, networks=(network(),)),
            of_server({}, {}, networks=(network(test_of="plan-1", test_users=("test-1",)),)),
            of_server({}, {}, vmm_id="server-2"),
        ],
    ),
    (
        Verb.PLACE_REPLICA,
        {"cloud_id": CLOUD_ID, "hyperv_id": "hyperv-1"},
        of(),
        [of(run_state="Running"), of(host="other"), of(cloud_id="x"), of(hyperv_id="x")],
    ),
    (
        Verb.ENABLE_REPLICATION,
        PEER,
        replicating(state=1),
        [
            of(),
            replicating(mode="Replica"),
            replicating(state=0),
            replicating(peer_machine_id="x"),
            replicating(peer_host="x"),
            replicating(peer_port=1),
            replicating(relationship_id="x"),
        ],
    ),
    (
        Verb.START_INITIAL_REPLICATION,
        {},
        replicating(state=2),
        [of(), replicating(state=1), replicating(state=8)],
    ),
    (
        Verb.CANCEL_INITIAL_REPLICATION,
        {},
        replicating(state=1),
        [of(), replicating(state=2), replicating(state=1, scheduled_at=LATER)],
    ),
    (
        Verb.EXPORT_INITIAL_REPLICATION,
        {"folder": "share"},
        replicating(state=2),
        [of(), replicating(state=1)],
    ),
    (
        Verb.IMPORT_INITIAL_REPLICATION,
        {"folder": "share"},
        replicating(mode="Replica", state=3),
        [of(), replicating(mode="Replica", state=2)],
    ),
    (
        Verb.COMPLETE_INITIAL_REPLICATION,
        {},
        replicating(state=3),
        [of(), replicating(state=2)],
    ),
    (
        Verb.PAUSE_REPLICATION,
        {},
        replicating(state=7),
        [of(), replicating(state=3), replicating(state=10)],
    ),
    (
        Verb.RESUME_REPLICATION,
        {},
        replicating(state=3),
        [
            of(),
            replicating(state=7),
            replicating(state=8),
            replicating(state=9),
            replicating(state=11),
        ],
    ),
    (
        Verb.RESYNCHRONIZE,
        {},
        replicating(state=10),
        [of(), replicating(state=9), replicating(state=11), replicating(state=2)],
    ),
    (
        Verb.CANCEL_RESYNCHRONIZATION,
        {},
        replicating(state=9),
        [of(), replicating(state=10), replicating(state=9, resynchronize_at=LATER)],
    ),
    (Verb.DISABLE_REPLICATION, {}, of(), [replicating(state=3)]),
    (
        Verb.UPDATE_PROTECTION,
        {"item": "item-1"},
        of(),
        [of(protected_item=None), of(protected_item="x")],
    ),
    (Verb.CONNECT_ADAPTERS, ADAPTERS, of(nics=AS_ASKED), [of(nics=each) for each in UNLIKE]),
    (Verb.SHUT_DOWN, {}, of(), [of(run_state="Running"), of(guest=guest())]),
    (
        Verb.PREPARE_FAILOVER,
        {},
        replicating(state=4),
        [of(), replicating(state=3), replicating(state=4, pending_bytes=1)],
    ),
    (Verb.SYNCHRONIZE, {}, replicating(), [of(), replicating(pending_bytes=1)]),
    (
        Verb.FAIL_OVER,
        {"planned": True, "expected_cut": 7},
        replicating(mode="Replica", state=5),
        [
            of(),
            replicating(state=3),
            replicating(state=5, last_cut=6),
            of(replication=replication(state=5), epoch=1),
            of(replication=replication(state=5), epoch=3),
        ],
    ),
    (
        Verb.CHANGE_RECOVERY_POINT,
        {"recovery_point": "point-1"},
        replicating(mode="Replica", state=5, failed_over_to=POINT),
        [
            of(),
            replicating(mode="Replica", state=5),
            replicating(mode="Replica", state=12, failed_over_to=POINT),
            replicating(mode="Replica", state=5, failed_over_to={**POINT, "point_id": "x"}),
            of(
                replication=replication(mode="Replica", state=5, failed_over_to=POINT),
                run_state="Running",
            ),
        ],
    ),
    (Verb.CANCEL_FAILOVER, {}, replicating(), [of(), replicating(state=5)]),
    (
        Verb.START,
        {},
        of(run_state="Running", guest=guest()),
        [
            of(),
            of(run_state="Running"),
            of(run_state="Off", guest=guest()),
            of(run_state="Running", guest=guest(nonce="f" * 32)),
            of(run_state="Running", guest=guest(verified=False)),
            of(run_state="Running", guest=guest(), epoch=1),
        ],
    ),
    (Verb.COMMIT, {}, replicating(state=6), [of(), replicating(state=5)]),
    (
        Verb.PREPARE_REVERSE,
        {},
        replicating(mode="Replica"),
        [of(), replicating(), of(replication=replication(mode="Replica"), epoch=1)],
    ),
    (
        Verb.REVERSE_REPLICATE,
        {**PEER, "resynchronize": False},
        replicating(),
        [of(), replicating(mode="Replica"), replicating(state=1), replicating(peer_host="x")],
    ),
    (
        Verb.KEEP_COPY,
        {"machine_id": "machine-2"},
        of(kept_of="machine-2"),
        [of(), of(kept_of="machine-2", run_state="Running"), of(kept_of="machine-2", disks=())],
    ),
    (
        Verb.CREATE_TEST_MACHINE,
        {"replica_machine_id": "machine-2"},
        of(test_machine_of="machine-2"),
        [of(), of(test_machine_of="x")],
    ),
    (
        Verb.PREPARE_TEST_MACHINE,
        {"network_id": "network-1"},
        of(),
        [of(nics=({"nic_id": "n", "network_id": None},)), of(nics=())],
    ),
    (Verb.REMOVE_TEST_MACHINE, {}, ReadBack(), [of()]),
    (
        Verb.CONFIRM_EPOCH,
        {"authoritative": True},
        of(run_state="Running"),
        [of(epoch_confirmed=False), of(epoch=1)],
    ),
]


def expected(verb: Verb, arguments: dict[str, Any], **changes: Any) -> Expected:
    values: dict[str, Any] = {
        "target": target_of(verb),
        "epoch": 2,
        "result": {"replica_host": HOST, "replica_port": 8084},
        "nonce": NONCE,
        "thumbprints": {HOST: "AA11"},
        **changes,
    }
    return Expected(verb=verb, arguments=arguments, **values)


def test_every_verb_of_the_contract_has_a_case_here() -> None:
    assert [case[0] for case in CASES] == list(FABRIC_VERBS)


@pytest.mark.parametrize(("verb", "arguments", "seen", "_"), CASES)
def test_a_verb_has_succeeded_when_its_post_condition_is_read_back(
    verb: Verb, arguments: dict[str, Any], seen: ReadBack, _: list[ReadBack]
) -> None:
    assert unmet(expected(verb, arguments), seen) is None


@pytest.mark.parametrize(
    ("verb", "arguments", "seen"),
    [(verb, arguments, bad) for verb, arguments, _, wrong in CASES for bad in wrong],
)
def test_a_lie_is_found_and_put_into_words(
    verb: Verb, arguments: dict[str, Any], seen: ReadBack
) -> None:
    reason = unmet(expected(verb, arguments), seen)
    assert reason
    assert "\n" not in reason


ENDED_BY_REMOVAL = (Verb.REMOVE_TEST_MACHINE, Verb.DISABLE_REPLICATION, Verb.UPDATE_PROTECTION)


@pytest.mark.parametrize("verb", [verb for verb in FABRIC_VERBS if verb not in ENDED_BY_REMOVAL])
def test_what_does_not_exist_satisfies_nothing(verb: Verb) -> None:
    assert "does not exist" in str(unmet(expected(verb, {}), ReadBack()))


@pytest.mark.parametrize("verb", ENDED_BY_REMOVAL)
def test_what_was_to_end_has_ended_with_the_machine(verb: Verb) -> None:
    assert unmet(expected(verb, {}), ReadBack()) is None


def test_a_property_that_was_to_be_set_is_missed_with_its_machine() -> None:
    asked = expected(Verb.UPDATE_PROTECTION, {"item": "item-1"})
    assert "does not exist" in str(unmet(asked, ReadBack()))


@pytest.mark.parametrize("verb", [verb for verb in FABRIC_VERBS if verb not in CLOUD_VERBS])
def test_a_view_of_another_machine_proves_nothing(verb: Verb) -> None:
    other = ReadBack(machine=machine(machine_id="machine-9", replication=replication()))
    assert unmet(expected(verb, {}), other) is not None


def test_an_answer_without_a_nonce_never_proves_that_a_guest_runs() -> None:
    seen = of(run_state="Running", guest=guest(nonce=""))
    assert unmet(expected(Verb.START, {}, nonce=""), seen) is not None


def test_on_which_node_of_a_cluster_a_replica_is_its_broker_says() -> None:
    seen = replicating(peer_host="osaka-hyperv-2.example")
    enabling = {**PEER, "replica_broker": "osaka-broker.example"}
    assert unmet(expected(Verb.ENABLE_REPLICATION, enabling), seen) is None
    assert "peer host" in str(unmet(expected(Verb.ENABLE_REPLICATION, PEER), seen))


def test_a_task_without_an_item_has_no_epoch_to_check() -> None:
    seen = of(run_state="Running", guest=guest(), epoch=0)
    assert unmet(expected(Verb.START, {}, epoch=0), seen) is None


def test_a_copy_that_is_not_active_must_be_off_and_need_not_be_confirmed() -> None:
    ordered = expected(Verb.CONFIRM_EPOCH, {"authoritative": False})
    assert unmet(ordered, of(epoch_confirmed=False)) is None
    assert unmet(ordered, of(run_state="Running")) is not None


def test_an_unplanned_failover_asks_for_no_cut() -> None:
    seen = replicating(mode="Replica", state=5, last_cut=0)
    assert unmet(expected(Verb.FAIL_OVER, {"planned": False, "expected_cut": None}), seen) is None


@pytest.mark.parametrize(("state", "holds"), [(9, True), (10, True), (11, True), (4, False)])
def test_a_source_may_have_to_be_compared_once_its_failover_is_cancelled(
    state: int, *, holds: bool
) -> None:
    assert (unmet(expected(Verb.CANCEL_FAILOVER, {}), replicating(state=state)) is None) is holds


def test_reversal_with_resynchronization_may_still_have_to_begin() -> None:
    ordered = expected(Verb.REVERSE_REPLICATE, {**PEER, "resynchronize": True})
    assert unmet(ordered, replicating(state=1)) is None
    assert unmet(ordered, replicating(state=0)) is not None


def test_a_place_that_is_not_named_is_no_place() -> None:
    arguments = {"cloud_id": CLOUD_ID, "hyperv_id": "hyperv-1"}
    assert unmet(expected(Verb.PLACE_REPLICA, arguments, result={}), of()) is not None


@pytest.mark.parametrize("verb", FABRIC_VERBS)
def test_arguments_of_any_shape_break_nothing(verb: Verb) -> None:
    names = ("replica_port", "allowed_primaries", "item", "expected_cut", "planned", "network_id")
    odd: dict[str, Any] = {name: [{}] for name in names}
    for seen in (of(), replicating(), of_cloud()):
        unmet(expected(verb, odd), seen)


def test_a_copy_that_is_to_begin_later_waits_for_its_time() -> None:
    asked = expected(Verb.START_INITIAL_REPLICATION, {"start_at": LATER})
    assert unmet(asked, replicating(state=1, scheduled_at=LATER)) is None
    assert unmet(asked, replicating(state=2)) is None
    assert unmet(asked, replicating(state=1)) is not None


def test_a_comparison_that_is_to_begin_later_waits_for_its_time() -> None:
    asked = expected(Verb.RESYNCHRONIZE, {"start_at": LATER})
    assert unmet(asked, replicating(state=9, resynchronize_at=LATER)) is None


def test_a_failover_to_a_point_has_to_stand_there() -> None:
    asked = expected(Verb.FAIL_OVER, {"planned": False, "recovery_point": "point-1"})
    assert unmet(asked, replicating(state=5, failed_over_to=POINT)) is None
    assert unmet(asked, replicating(state=5)) is not None


def test_a_replica_that_was_to_be_deleted_is_gone() -> None:
    asked = expected(Verb.DISABLE_REPLICATION, {"delete_replica": True})
    assert unmet(asked, ReadBack()) is None
    assert unmet(asked, of()) is not None


@pytest.mark.parametrize("verb", [Verb.PLACE_REPLICA, Verb.PREPARE_REVERSE])
@pytest.mark.parametrize("answer", [{}, {"replica_host": HOST}, {"replica_port": 8084}])
def test_an_answer_that_does_not_say_where_the_replica_is_is_no_success(
    verb: Verb, answer: dict[str, Any]
) -> None:
    """A reversal that goes on finds the copy prepared: an idle answer would look like success."""
    arguments, seen = next((case[1], case[2]) for case in CASES if case[0] is verb)
    said = unmet(expected(verb, arguments, result=answer), seen)
    assert said is not None
    assert "replica_host" in said
