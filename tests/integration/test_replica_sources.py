"""Two sources claim one replica: it goes on with the one that it belongs to, and says so."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.support.clustered_sites import replicates_on
from tests.support.simulator_estate import (
    DISK_BYTES,
    MACHINE,
    PORT,
    REPLICA,
    Estate,
    RunningSite,
    make_estate,
)
from tests.support.simulator_steps import digest, protect
from vmm_simulator.hyperv.backend import (
    CutKind,
    DiskFile,
    PeerAddress,
    TransferHeader,
    TransferRefusedError,
)
from vmm_simulator.hyperv.host import Host
from vmm_simulator.hyperv.host_control import Offer, OfferedDisk
from vmm_simulator.problems import Code, RefusedError
from wire_contract.vocabulary import Verb

OTHER = "vm-2"


@pytest.fixture
def estate(tmp_path: Path) -> Estate:
    return make_estate(tmp_path)


def way_to_replica(estate: Estate, caller: Host) -> PeerAddress:
    fqdn = estate.fqdns("osaka")[0]
    return PeerAddress(fqdn, caller.address_of(fqdn), PORT)


def offer(relationship_id: str, primary_host: str) -> Offer:
    return Offer(
        relationship_id=relationship_id,
        epoch=1,
        hyperv_id=MACHINE,
        replica_machine_id=REPLICA,
        primary_machine_id=OTHER,
        primary_host=primary_host,
        primary_port=PORT,
        disks=tuple(
            OfferedDisk(disk_id=f"disk-{index}", size_bytes=size)
            for index, size in enumerate(DISK_BYTES)
        ),
        interval_seconds=30,
    )


@pytest.mark.parametrize(
    ("relationship_id", "node"), [("relationship-2", 0), ("relationship-1", 1)]
)
async def test_a_replica_is_offered_to_one_relationship_alone(
    estate: Estate, relationship_id: str, node: int
) -> None:
    async with estate.both() as (tokyo, osaka):
        await protect(estate, tokyo, osaka)
        fqdn = estate.fqdns("tokyo")[node]
        caller = tokyo.site.fabric.hosts[fqdn]
        with pytest.raises(RefusedError, match="belongs to another relationship") as refusal:
            await caller.offer(way_to_replica(estate, caller), offer(relationship_id, fqdn))
        assert refusal.value.code == Code.INVALID_STATE
        await replicates_on(tokyo, osaka)


async def change_set_of_another(estate: Estate, tokyo: RunningSite, cut: int) -> None:
    """Send what another machine of the pairing's has, as the replica's next change set."""
    caller = tokyo.site.fabric.hosts[estate.fqdns("tokyo")[1]]
    disks = []
    for index, size in enumerate(DISK_BYTES):
        path = estate.folder / f"other-{index}.img"
        path.write_bytes(b"x" * size)
        disks.append(DiskFile(f"disk-{index}", path, size))
    backend = caller.backend
    await backend.attach(OTHER, disks)
    await backend.start_tracking(OTHER)
    backend.write(OTHER, 0, 0, b"of another machine", 1)
    now = datetime.now(UTC)
    change_set = await backend.cut(OTHER, CutKind.DELTA, cut, now)
    header = TransferHeader(
        "relationship-1", "t", 1, cut, CutKind.DELTA, now, last_record=1, source=OTHER
    )
    try:
        way = way_to_replica(estate, caller)
        await backend.send(change_set, way, header, lambda _: None)
    finally:
        await backend.release(change_set, acknowledged=False)


async def test_changes_of_another_machine_are_refused_whatever_they_are_called(
    estate: Estate,
) -> None:
    async with estate.both() as (tokyo, osaka):
        await protect(estate, tokyo, osaka)
        await tokyo.done(Verb.PAUSE_REPLICATION, MACHINE)
        held = (await osaka.machine(REPLICA))["replication"]["last_cut"]
        # The hosts of a pairing are trusted together, and the number is the right one.
        with pytest.raises(TransferRefusedError, match="fed by machine vm-1, not by vm-2") as no:
            await change_set_of_another(estate, tokyo, held + 1)
        assert no.value.code == Code.INVALID_STATE
        replication = (await osaka.machine(REPLICA))["replication"]
        assert replication["last_cut"] == held
        assert replication["peer_host"] == estate.fqdns("tokyo")[0]
        await tokyo.guests[MACHINE].write(0, 0, b"of the machine itself", 1)
        await tokyo.done(Verb.RESUME_REPLICATION, MACHINE)
        await tokyo.done(Verb.SYNCHRONIZE, MACHINE)
        await osaka.site.fabric.hosts[estate.fqdns("osaka")[0]].backend.apply_committed(REPLICA)
        assert digest(osaka.disks(REPLICA)) == digest(tokyo.disks(MACHINE))
