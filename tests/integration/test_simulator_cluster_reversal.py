"""Clusters on both sides: failover, commit, reversal and failback while machines move live.

A reversal offers to the replica broker of the former primary's cluster, which knows the node.
"""

from pathlib import Path
from typing import Any

import pytest

from tests.support.clustered_sites import both, clustered, move
from tests.support.kerberos_centre import REALM, KerberosCentre
from tests.support.simulator_estate import (
    CLOUD,
    MACHINE,
    REPLICA,
    Estate,
    RunningSite,
    make_estate,
)
from tests.support.simulator_steps import POLICY, digest, enable_at, place, protect
from vmm_simulator.problems import RefusedError
from wire_contract.vocabulary import KERBEROS_PORT, Verb

End = tuple[RunningSite, str]


@pytest.fixture
def estate(tmp_path: Path) -> Estate:
    return make_estate(tmp_path)


async def failed_over(source: End, target: End, epoch: int) -> None:
    """Fail over as planned and commit; the target runs."""
    (from_site, from_id), (to_site, to_id) = source, target
    await from_site.done(Verb.SHUT_DOWN, from_id, {"seconds": 30}, epoch=epoch - 1)
    prepared = await from_site.done(Verb.PREPARE_FAILOVER, from_id, epoch=epoch - 1)
    asked = {"planned": True, "expected_cut": prepared["last_cut"], "recovery_point": None}
    await to_site.done(Verb.FAIL_OVER, to_id, asked, epoch=epoch)
    await to_site.done(Verb.START, to_id, epoch=epoch)
    await to_site.done(Verb.COMMIT, to_id, epoch=epoch)


async def prepared_reverse(
    target: End, source: End, *, primary_host: str, epoch: int
) -> dict[str, Any]:
    """Make the former primary a replica; where it is found."""
    (to_site, to_id), (_, from_id) = target, source
    arguments = {
        "relationship_id": f"relationship-{epoch}",
        "primary_host": primary_host,
        "primary_machine_id": from_id,
        "resynchronize": False,
        "interval_seconds": 30,
    }
    return await to_site.done(Verb.PREPARE_REVERSE, to_id, arguments, epoch=epoch)


async def reversed_to(source: End, target: End, found: dict[str, Any], epoch: int) -> None:
    """Make the copy that runs the primary of what was prepared."""
    (from_site, from_id), (_, to_id) = source, target
    arguments = {
        **found,
        **POLICY,
        "relationship_id": f"relationship-{epoch}",
        "replica_machine_id": to_id,
        "resynchronize": False,
    }
    await from_site.done(Verb.REVERSE_REPLICATE, from_id, arguments, epoch=epoch)


async def writes_arrive(source: End, target: End, record: int) -> None:
    """Return once what the guest writes now is on the other end, byte for byte."""
    (from_site, from_id), (to_site, to_id) = source, target
    await from_site.guests[MACHINE].write(1, 4096 * record, b"record %d" % record, record)
    await to_site.until(to_id, lambda each: each["replication"]["last_cut_record"] == record)
    # What is durable in the redo log is written into the image a moment later.
    await to_site.until(
        to_id, lambda _: digest(from_site.disks(from_id)) == digest(to_site.disks(to_id))
    )


def peer(end: End) -> tuple[str, str | None]:
    """Return the host and the broker that an end knows of the other one."""
    site, machine_id = end
    relationship = site.site.fabric.store.machine(machine_id).relationship
    assert relationship is not None
    return relationship.peer_host, relationship.peer_broker


async def test_a_reversal_finds_the_node_through_the_broker_wherever_both_have_moved(
    estate: Estate,
) -> None:
    (east, other_east), (west, other_west) = estate.fqdns("tokyo"), estate.fqdns("osaka")
    brokers = estate.broker("tokyo"), estate.broker("osaka")
    async with both(estate) as (tokyo, osaka):
        await protect(estate, tokyo, osaka)
        here, there = (tokyo, MACHINE), (osaka, REPLICA)
        await failed_over(here, there, epoch=2)
        # The copy that runs moves, and nobody but its own cluster knows where.
        await move(osaka, REPLICA, other_west)
        found = await prepared_reverse(here, there, primary_host=west, epoch=2)
        assert found["replica_host"] == east
        assert found["replica_broker"] == brokers[0]
        # So does the new replica, between the two steps of the reversal.
        await move(tokyo, MACHINE, other_east)
        await reversed_to(there, here, found, epoch=2)
        assert peer(there) == (other_east, brokers[0])
        assert peer(here) == (other_west, brokers[1])
        await writes_arrive(there, here, 10)
        # Both go on moving, and then back home: the same verbs the other way round.
        await move(osaka, REPLICA, west)
        await move(tokyo, MACHINE, east)
        await writes_arrive(there, here, 11)
        assert (peer(there)[0], peer(here)[0]) == (east, west)
        await failed_over(there, here, epoch=3)
        await move(tokyo, MACHINE, other_east)
        found = await prepared_reverse(there, here, primary_host=east, epoch=3)
        assert (found["replica_host"], found["replica_broker"]) == (west, brokers[1])
        await reversed_to(here, there, found, epoch=3)
        await writes_arrive(here, there, 12)
        assert (peer(here), peer(there)) == ((west, brokers[1]), (other_east, brokers[0]))


async def test_a_prepared_replica_takes_no_offer_of_another_machine_or_of_a_stranger(
    estate: Estate,
) -> None:
    west = estate.fqdns("osaka")[0]
    async with both(estate) as (tokyo, osaka):
        await protect(estate, tokyo, osaka)
        here, there = (tokyo, MACHINE), (osaka, REPLICA)
        await failed_over(here, there, epoch=2)
        wrong = (osaka, "another-machine")
        found = await prepared_reverse(here, wrong, primary_host=west, epoch=2)
        with pytest.raises(AssertionError, match="belongs to another relationship"):
            await reversed_to(there, here, found, epoch=2)


async def test_a_primary_that_moved_unseen_is_found_before_its_replica_is_failed_over(
    estate: Estate,
) -> None:
    (east, other_east), (_, other_west) = estate.fqdns("tokyo"), estate.fqdns("osaka")
    asking = {"planned": False, "recovery_point": None, "ask_primary": True}
    async with both(estate) as (tokyo, osaka):
        await protect(estate, tokyo, osaka)
        # Nothing is sent any more: neither end hears from the other where it is now.
        await tokyo.done(Verb.PAUSE_REPLICATION, MACHINE)
        await move(tokyo, MACHINE, other_east)
        await move(osaka, REPLICA, other_west)
        assert peer((osaka, REPLICA))[0] == east
        with pytest.raises(AssertionError, match="runs on"):
            await osaka.done(Verb.FAIL_OVER, REPLICA, asking, epoch=2)
        # The node that it was on is gone: the broker knows.
        status, answer = await tokyo.manage("DELETE", f"/hosts/{east}")
        assert status == 200, answer
        with pytest.raises(AssertionError, match="runs on"):
            await osaka.done(Verb.FAIL_OVER, REPLICA, asking, epoch=2)
        await tokyo.done(Verb.SHUT_DOWN, MACHINE, {"seconds": 30})
        await osaka.done(Verb.FAIL_OVER, REPLICA, asking, epoch=2)


async def test_a_ticket_of_a_node_counts_for_its_brokers_entry_where_the_pairing_tells_of_it(
    estate: Estate, kerberos_realm: KerberosCentre
) -> None:
    settings = {"realm": REALM, "configuration_file": str(kerberos_realm.configuration_file)}
    east, other_east = estate.fqdns("tokyo")
    broker = estate.broker("tokyo")
    entry = {"primary": broker, "trust_group": "tokyo"}
    running = []
    for name in CLOUD:
        inventory = clustered(estate, name)
        for host in inventory["hosts"]:
            keytab = kerberos_realm.node_keytab(host["fqdn"], estate.broker(name))
            host["keytab_file"] = str(keytab)
            if name == "osaka":
                host["authorisations"] = {"entries": [entry]}
        running.append(estate.running(name, kerberos=settings, inventory=inventory))
    way = {"replica_port": KERBEROS_PORT, "authentication": "kerberos"}
    async with running[0] as tokyo, running[1] as osaka:
        named = {"allowed_primaries": estate.fqdns("osaka")}
        await tokyo.done(Verb.PREPARE_CLOUD, CLOUD["tokyo"], {**way, **named})
        nobody: dict[str, Any] = {"allowed_primaries": []}
        await osaka.done(Verb.PREPARE_CLOUD, CLOUD["osaka"], {**way, **nobody})
        machine = await tokyo.machine(MACHINE)
        placed = await place(estate, osaka, machine, primary_broker=broker)
        policy = {**POLICY, "authentication": "kerberos"}
        # The ticket says no more than the node's name, and whose node it is nobody has told.
        with pytest.raises(AssertionError, match=f"{east} is not authorised"):
            await enable_at(tokyo, placed, policy=policy)
        told = {"partner_clusters": [{"broker": broker, "nodes": [east.upper(), other_east]}]}
        await osaka.done(Verb.PREPARE_CLOUD, CLOUD["osaka"], {**way, **nobody, **told})
        await enable_at(tokyo, placed, policy=policy)
        await tokyo.done(Verb.START_INITIAL_REPLICATION, MACHINE, {"resynchronize": False})
        await tokyo.done(Verb.COMPLETE_INITIAL_REPLICATION, MACHINE)
        assert peer((osaka, REPLICA)) == (east, broker)
        await move(tokyo, MACHINE, other_east)
        await writes_arrive((tokyo, MACHINE), (osaka, REPLICA), 5)
        assert peer((osaka, REPLICA)) == (other_east, broker)
        # A host with a ticket that is no node of that cluster stays outside.
        stranger = osaka.site.fabric.hosts[estate.fqdns("osaka")[1]]
        relationship = tokyo.site.fabric.store.machine(MACHINE).relationship
        assert relationship is not None
        with pytest.raises(RefusedError, match="not authorised"):
            await stranger.ask(stranger.peer_of(relationship), relationship.relationship_id)
        # What the pairing told goes with it.
        await osaka.done(Verb.PREPARE_CLOUD, CLOUD["osaka"], {**way, **nobody})
        with pytest.raises(AssertionError, match="is not authorised"):
            await tokyo.done(Verb.SYNCHRONIZE, MACHINE)
