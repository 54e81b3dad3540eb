"""A hub's jobs over two clusters while the machine moves live; all is real but the wires."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from service_hub.domain.jobs import Job, JobState
from service_hub.domain.protection import Operation, ProtectionState
from tests.support.clustered_sites import ClusteredEstate
from tests.support.hub_world import HubWorld
from tests.support.kerberos_centre import KerberosCentre
from tests.support.kill_stories import (
    QUICK_WATCH_SECONDS,
    all_ended,
    asking,
    no_job_runs,
    pair,
    rests_in,
    stories,
)
from tests.support.kill_world import DISK_BYTES, SITES, KillWorld, estate_world, light_world
from tests.support.simulator_estate import CLOUD, MACHINE
from vmm_simulator.hyperv import kerberos
from vmm_simulator.hyperv.backend import CutKind
from vmm_simulator.vmm.partner_clusters import PartnerCluster
from vmm_simulator.vmm.records import MachineRecord
from vmm_simulator.vmm.relationship_records import RelationshipRecord
from wire_contract.vocabulary import KERBEROS_PORT, ReplicationMode, RunState

ENABLE = f"{Operation.ENABLE.value} of {ProtectionState.UNPROTECTED.value}"
OTHER = {"tokyo": "osaka", "osaka": "tokyo"}


@asynccontextmanager
async def clusters(folder: Path, realm: KerberosCentre | None = None) -> AsyncIterator[KillWorld]:
    """Run everything, with a cluster on both sides; nothing is paired."""
    (folder / "estate").mkdir()
    estate = ClusteredEstate(folder / "estate", disk_bytes=DISK_BYTES, realm=realm)
    with light_world():
        async with estate_world(
            folder, estate, SITES, watch_seconds=QUICK_WATCH_SECONDS
        ) as running:
            yield running


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[KillWorld]:
    """Run everything, with a machine that is protected from cluster to cluster."""
    async with clusters(tmp_path) as running:
        await told(running, "create_policy", "pair_clouds", ENABLE)
        yield running


async def told(world: KillWorld, *names: str) -> None:
    """Go through these stories."""
    known = stories()
    for name in names:
        await known[name].ask(world)
        await world.settled(known[name].over)


async def kerberos_policy(world: KillWorld) -> None:
    """Make the policy that the pair takes: hosts prove themselves by tickets."""
    identity = world.identity()
    settings = {
        "provider_type": "HyperVReplica2012R2",
        "replication_frequency_seconds": 30,
        "allowed_authentication_type": 1,
    }
    await world.call(lambda hub: hub.policies.create(hub.vault, "p", settings, identity))
    await world.settled(no_job_runs)


def nodes(site: str) -> tuple[str, str]:
    return f"host1.{site}.example", f"host2.{site}.example"


def copy_at(world: KillWorld, site: str) -> tuple[MachineRecord, RelationshipRecord]:
    """Return a site's copy of the machine."""
    (machine,) = world.sites[site].fabric.store.machines.values()
    assert machine.relationship is not None
    return machine, machine.relationship


async def move(world: KillWorld, site: str) -> None:
    """Move a site's copy to the other node of its cluster, live."""
    machine, _ = copy_at(world, site)
    (target,) = set(nodes(site)) - {machine.host}
    await world.sites[site].control.migrate(machine.machine_id, target)


async def done(world: KillWorld, operation: Operation, state: ProtectionState) -> None:
    """Do an operation; the item rests in a state."""
    await asking(operation)(world)
    await world.settled(rests_in(state))


async def replicates_from(world: KillWorld, site: str, record: int) -> None:
    """Assert that what the guest writes at one site arrives, between the nodes of now."""
    source, sends = copy_at(world, site)
    fabric = world.sites[site].fabric
    assert fabric.host_of(source).guests.run_state(source) is RunState.RUNNING
    await world.guests[site, source.hyperv_id].write(0, 0, b"record %d" % record, record)
    await fabric.cycles.cycle(source.machine_id).ship_until_held(CutKind.DELTA)
    replica, takes = copy_at(world, OTHER[site])
    assert takes.last_cut_record == record
    assert (sends.mode, takes.mode) == (ReplicationMode.PRIMARY, ReplicationMode.REPLICA)
    _, sends = copy_at(world, site)
    assert (sends.peer_host, takes.peer_host) == (replica.host, source.host)


async def test_a_clustered_machine_fails_over_reverses_and_fails_back_while_it_moves(
    world: KillWorld,
) -> None:
    for site, other in OTHER.items():
        for host in world.sites[site].fabric.store.hosts.values():
            broker = f"cluster-broker.{other}.example"
            known = PartnerCluster(broker=broker, nodes=nodes(other))
            assert host.partner_clusters == {CLOUD[site]: (known,)}
    await replicates_from(world, "tokyo", 1)
    await move(world, "tokyo")
    await replicates_from(world, "tokyo", 2)
    await done(world, Operation.PLANNED_FAILOVER, ProtectionState.PLANNED_FAILED_OVER)
    # Both move between the failover and the reversal, and the hub may not know of it yet.
    await move(world, "osaka")
    await done(world, Operation.COMMIT, ProtectionState.PLANNED_COMMITTED)
    await move(world, "tokyo")
    await done(world, Operation.REVERSE_REPLICATE, ProtectionState.PROTECTED)
    assert (copy_at(world, "tokyo")[0].host, copy_at(world, "osaka")[0].host) == (
        nodes("tokyo")[0],
        nodes("osaka")[1],
    )
    await replicates_from(world, "osaka", 3)
    # And back, the same way.
    await move(world, "osaka")
    await replicates_from(world, "osaka", 4)
    await done(world, Operation.PLANNED_FAILOVER, ProtectionState.PLANNED_FAILED_OVER)
    await move(world, "tokyo")
    await done(world, Operation.COMMIT, ProtectionState.PLANNED_COMMITTED)
    await done(world, Operation.REVERSE_REPLICATE, ProtectionState.PROTECTED)
    await replicates_from(world, "tokyo", 5)
    assert copy_at(world, "tokyo")[0].machine_id == MACHINE


async def test_a_clustered_machine_is_protected_and_reversed_by_tickets(
    tmp_path: Path, kerberos_realm: KerberosCentre
) -> None:
    async with clusters(tmp_path, kerberos_realm) as world:
        await kerberos_policy(world)
        await told(world, "pair_clouds", ENABLE)
        for site in world.sites.values():
            for host in site.fabric.store.hosts.values():
                assert host.certificate_thumbprint is None
                (port,) = host.replica_ports.values()
                assert (port.port, port.authentication) == (KERBEROS_PORT, "kerberos")
        await move(world, "tokyo")
        await replicates_from(world, "tokyo", 1)
        await done(world, Operation.PLANNED_FAILOVER, ProtectionState.PLANNED_FAILED_OVER)
        await move(world, "osaka")
        await done(world, Operation.REVERSE_REPLICATE, ProtectionState.PROTECTED)
        await replicates_from(world, "osaka", 2)


async def test_a_pairing_by_kerberos_without_the_extra_says_what_to_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kerberos, "gssapi", None)
    async with clusters(tmp_path) as world:
        await kerberos_policy(world)
        await pair(world)

        async def failed(hub: HubWorld) -> bool:
            return await all_ended(hub, {JobState.SUCCEEDED, JobState.FAILED})

        await world.settled(failed)
        jobs = await world.call(lambda hub: hub.store.find(Job))
        (job,) = [each.record for each in jobs if each.record.scenario_key == "pair_clouds"]
        assert job.state is JobState.FAILED
        assert "pip install 'site-recovery-hub[kerberos]'" in job.errors[0].model_dump_json()
