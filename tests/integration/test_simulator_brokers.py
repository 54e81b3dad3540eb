"""Replica brokers: an address of their own, found by name, on a node that is up."""

from pathlib import Path

import pytest

from tests.support.clustered_sites import both, clustered, move, replicates_on
from tests.support.kerberos_centre import REALM, KerberosCentre
from tests.support.simulator_estate import (
    CLOUD,
    MACHINE,
    PORT,
    REPLICA,
    Estate,
    RunningSite,
    make_estate,
)
from tests.support.simulator_steps import POLICY, enable_at, pair, place, protect
from vmm_simulator.hyperv.backend import PeerAddress
from vmm_simulator.problems import RefusedError
from wire_contract.vocabulary import KERBEROS_PORT, Verb

CLUSTER = "cluster.osaka.example"
OTHER_PORT = 8085


@pytest.fixture
def estate(tmp_path: Path) -> Estate:
    return make_estate(tmp_path)


async def location(estate: Estate, tokyo: RunningSite) -> str:
    """Ask the broker, by its name at its address, where the replica is."""
    caller = tokyo.site.fabric.hosts[estate.fqdns("tokyo")[0]]
    relationship = tokyo.site.fabric.store.machine(MACHINE).relationship
    assert relationship is not None
    way = caller.broker_of(relationship)
    assert way is not None
    assert way.fqdn == estate.broker("osaka")
    return (await caller.replica_location(way, relationship.relationship_id)).host


def node(site: RunningSite) -> str | None:
    return site.site.fabric.brokers.node_of(CLUSTER)


async def test_a_replica_is_found_by_the_broker_when_its_former_node_is_gone(
    estate: Estate,
) -> None:
    one, two = estate.fqdns("osaka")
    async with both(estate) as (tokyo, osaka):
        await protect(estate, tokyo, osaka)
        assert (await osaka.machine(REPLICA))["host"] == one
        assert (node(osaka), await location(estate, tokyo)) == (one, one)
        await tokyo.done(Verb.PAUSE_REPLICATION, MACHINE)
        await move(osaka, REPLICA, two)
        assert await location(estate, tokyo) == two
        status, answer = await osaka.manage("DELETE", f"/hosts/{one}")
        assert status == 200, answer
        assert node(osaka) == two
        await tokyo.guests[MACHINE].write(0, 0, b"while nobody looked", 1)
        await tokyo.done(Verb.RESUME_REPLICATION, MACHINE)
        await replicates_on(tokyo, osaka)
        assert (await tokyo.machine(MACHINE))["replication"]["peer_host"] == two


async def test_an_entry_in_the_name_of_the_primarys_broker_lets_its_nodes_in_and_nobody_else(
    estate: Estate, tmp_path: Path
) -> None:
    one, two = estate.fqdns("tokyo")
    entry = {
        "primary": estate.broker("tokyo"),
        "trust_group": "tokyo",
        "storage_location": str(tmp_path / "of-the-cluster"),
    }
    inventory = estate.configuration("osaka")["inventory"]
    for host in inventory["hosts"]:
        host["authorisations"] = {"entries": [entry]}
    async with (
        estate.running("tokyo", inventory=clustered(estate, "tokyo")) as tokyo,
        estate.running("osaka", inventory=inventory) as osaka,
    ):
        await pair(estate, tokyo, osaka)
        nobody = {"authentication": "certificate", "allowed_primaries": []}
        await osaka.done(Verb.PREPARE_CLOUD, CLOUD["osaka"], {"replica_port": PORT, **nobody})
        with pytest.raises(AssertionError, match="does not authorise"):
            await place(estate, osaka, await tokyo.machine(MACHINE))
        machine = await tokyo.machine(MACHINE)
        placed = await place(estate, osaka, machine, primary_broker=estate.broker("tokyo"))
        await enable_at(tokyo, placed)
        await tokyo.done(Verb.START_INITIAL_REPLICATION, MACHINE, {"resynchronize": False})
        await tokyo.done(Verb.COMPLETE_INITIAL_REPLICATION, MACHINE)
        disks = osaka.site.fabric.store.machine(REPLICA).disks
        assert all(str(tmp_path / "of-the-cluster") in disk.path for disk in disks)
        # A host of the estate whose certificate names no such broker is a stranger.
        stranger = osaka.site.fabric.hosts[estate.fqdns("osaka")[1]]
        replica = tokyo.site.fabric.store.machine(MACHINE).relationship
        assert replica is not None
        with pytest.raises(RefusedError, match="not authorised"):
            await stranger.ask(stranger.peer_of(replica), replica.relationship_id)
        await move(tokyo, MACHINE, two)
        await replicates_on(tokyo, osaka)
        assert (await osaka.machine(REPLICA))["replication"]["peer_host"] == two
        await move(tokyo, MACHINE, one)
        await replicates_on(tokyo, osaka)


async def test_a_replica_is_made_through_the_broker_wherever_that_is(estate: Estate) -> None:
    one, two = estate.fqdns("osaka")
    async with both(estate) as (tokyo, osaka):
        await pair(estate, tokyo, osaka)
        placed = await place(estate, osaka, await tokyo.machine(MACHINE))
        assert (placed["replica_host"], placed["replica_broker"]) == (one, estate.broker("osaka"))
        # The role moves: another node than that of the replica answers for the cluster.
        assert (await osaka.manage("POST", f"/hosts/{one}/restart"))[0] == 200
        assert node(osaka) == two
        # What was said of the node is of no interest: the broker names the right one.
        await enable_at(tokyo, {**placed, "replica_host": two})
        await tokyo.done(Verb.START_INITIAL_REPLICATION, MACHINE, {"resynchronize": False})
        await tokyo.done(Verb.COMPLETE_INITIAL_REPLICATION, MACHINE)
        view = (await tokyo.machine(MACHINE))["replication"]
        assert (view["peer_host"], view["peer_port"]) == (one, PORT)
        await replicates_on(tokyo, osaka)
        # Repeated, also when the broker is on the replica's own node, nothing changes.
        assert (await osaka.manage("POST", f"/hosts/{two}/restart"))[0] == 200
        assert node(osaka) == one
        await enable_at(tokyo, placed)
        await replicates_on(tokyo, osaka)


async def test_a_broker_that_does_not_answer_leaves_it_to_the_node(estate: Estate) -> None:
    async with both(estate) as (tokyo, osaka):
        await pair(estate, tokyo, osaka)
        placed = await place(estate, osaka, await tokyo.machine(MACHINE))
        for fqdn in estate.fqdns("osaka"):
            await osaka.site.fabric.hosts[fqdn].leave_broker()
        await enable_at(tokyo, placed)
        view = (await tokyo.machine(MACHINE))["replication"]
        assert view["peer_host"] == placed["replica_host"]


async def test_brokers_are_asked_by_ticket_where_the_pairing_is_by_kerberos(
    estate: Estate, kerberos_realm: KerberosCentre
) -> None:
    settings = {"realm": REALM, "configuration_file": str(kerberos_realm.configuration_file)}
    one, two = estate.fqdns("osaka")
    sites = []
    for name in CLOUD:
        inventory = clustered(estate, name)
        for host in inventory["hosts"]:
            keytab = kerberos_realm.node_keytab(host["fqdn"], estate.broker(name))
            host["keytab_file"] = str(keytab)
        sites.append(estate.running(name, kerberos=settings, inventory=inventory))
    async with sites[0] as tokyo, sites[1] as osaka:
        for site, other, role in ((tokyo, "osaka", "Primary"), (osaka, "tokyo", "Recovery")):
            way = {"replica_port": KERBEROS_PORT, "authentication": "kerberos"}
            partners = {"allowed_primaries": estate.fqdns(other)}
            await site.done(Verb.PREPARE_CLOUD, CLOUD[site.name], {**way, **partners})
            paired = {"role": role, "partner_cloud_id": CLOUD[other]}
            await site.done(Verb.PAIR_CLOUD, CLOUD[site.name], paired)
        placed = await place(estate, osaka, await tokyo.machine(MACHINE))
        policy = {**POLICY, "authentication": "kerberos"}
        await enable_at(tokyo, {**placed, "replica_host": two}, policy=policy)
        assert (await tokyo.machine(MACHINE))["replication"]["peer_host"] == one
        await tokyo.done(Verb.START_INITIAL_REPLICATION, MACHINE, {"resynchronize": False})
        await tokyo.done(Verb.COMPLETE_INITIAL_REPLICATION, MACHINE)
        await move(osaka, REPLICA, two)
        assert await location(estate, tokyo) == two
        await replicates_on(tokyo, osaka)
        assert (await tokyo.machine(MACHINE))["replication"]["peer_host"] == two


async def test_the_broker_goes_to_a_node_that_is_up_and_stays_there(estate: Estate) -> None:
    one, two = estate.fqdns("osaka")
    async with both(estate) as (tokyo, osaka):
        await protect(estate, tokyo, osaka)
        assert node(osaka) == one
        assert (await osaka.manage("POST", f"/hosts/{one}/restart"))[0] == 200
        assert (node(osaka), await location(estate, tokyo)) == (two, one)
        assert (await osaka.manage("POST", f"/hosts/{one}/restart"))[0] == 200
        assert node(osaka) == two
        await replicates_on(tokyo, osaka)
    # Nobody keeps where it was: at the next start it is on the first node that can have it.
    async with both(estate) as (tokyo, osaka):
        assert (node(osaka), await location(estate, tokyo)) == (one, one)


async def test_only_a_certificate_in_the_name_that_was_asked_for_is_believed(
    estate: Estate,
) -> None:
    async with both(estate) as (tokyo, osaka):
        await protect(estate, tokyo, osaka)
        record = osaka.site.fabric.store.host(estate.fqdns("osaka")[0])
        assert record.certificate_names == (record.fqdn, estate.broker("osaka"))
        caller = tokyo.site.fabric.hosts[estate.fqdns("tokyo")[0]]
        for stranger in ("other-broker.osaka.example", estate.broker("tokyo")):
            way = PeerAddress(stranger, caller.address_of(estate.broker("osaka")), PORT)
            with pytest.raises(RefusedError, match="Hostname mismatch"):
                await caller.replica_location(way, "relationship-1")


async def test_a_node_of_two_pairings_is_found_at_the_port_of_the_machines_own(
    estate: Estate,
) -> None:
    _, two = estate.fqdns("osaka")
    inventory = clustered(estate, "osaka")
    inventory["clouds"].append({"id": "other", "name": "other", "host_groups": ["group"]})
    async with (
        estate.running("tokyo", inventory=clustered(estate, "tokyo")) as tokyo,
        estate.running("osaka", inventory=inventory) as osaka,
    ):
        await protect(estate, tokyo, osaka)
        other = {"authentication": "certificate", "allowed_primaries": ["elsewhere.example"]}
        await osaka.done(Verb.PREPARE_CLOUD, "other", {"replica_port": OTHER_PORT, **other})
        assert osaka.site.fabric.store.host(two).replica_port == OTHER_PORT
        await move(osaka, REPLICA, two)
        await replicates_on(tokyo, osaka)
        replication = (await tokyo.machine(MACHINE))["replication"]
        assert (replication["peer_host"], replication["peer_port"]) == (two, PORT)


async def test_without_an_address_any_node_answers_in_the_brokers_place(estate: Estate) -> None:
    _, two = estate.fqdns("osaka")
    hosts = estate.folder / "hosts"
    lines = [each for each in hosts.read_text().splitlines(keepends=True) if "broker" not in each]
    hosts.write_text("".join(lines))
    async with both(estate) as (tokyo, osaka):
        await protect(estate, tokyo, osaka)
        assert node(osaka) is None
        await move(osaka, REPLICA, two)
        await replicates_on(tokyo, osaka)
        assert (await tokyo.machine(MACHINE))["replication"]["peer_host"] == two
