import sqlite3
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import pytest

from service_shell.errors import ProgramError
from vmm_simulator.journal import SUCCEEDED, Change, Journal
from vmm_simulator.problems import RefusedError
from vmm_simulator.store import InventoryStore
from vmm_simulator.vmm.placement import Wish, clouds_of, hosts_of, place_replica
from vmm_simulator.vmm.records import (
    CloudRecord,
    DiskRecord,
    FabricRecord,
    HostRecord,
    MachineRecord,
)

NOW = datetime(2026, 1, 1, tzinfo=UTC)
FABRIC = FabricRecord(vmm_id="v", fqdn="vmm.example", version="3")
CLOUD = CloudRecord(
    cloud_id="cloud", name="Gold", capability_profile="Hyper-V", host_groups=("g1", "g2")
)


def host(number: int, group: str = "g1", *partners: str) -> HostRecord:
    return HostRecord(
        fqdn=f"host{number}.example",
        version="2012R2",
        host_group=group,
        disks_directory="/disks",
        replica_port=8084 if partners else None,
        allowed_primaries={"cloud": partners} if partners else {},
    )


def machine(number: int, on: HostRecord) -> MachineRecord:
    disk = DiskRecord(disk_id="d", name="d", kind="Data", size_bytes=1, path=f"/disks/{number}")
    return MachineRecord(
        machine_id=f"m{number}",
        hyperv_id=f"h{number}",
        name=f"m{number}",
        cloud_id="cloud",
        host=on.fqdn,
        generation=2,
        disks=(disk,),
    )


def chosen(hosts: Sequence[HostRecord], machines: Sequence[MachineRecord]) -> HostRecord:
    return place_replica(FABRIC, hosts, machines, "primary.example", Wish()).host


async def test_changes_are_whole_and_survive(tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite"
    async with Journal(path) as journal:
        await journal.save([Change("a", "1", "one"), Change("a", "2", "two")])
        with pytest.raises(sqlite3.Error):
            await journal.save([Change("a", "1", "half"), Change("a", "3", 3.5j)])  # type: ignore[arg-type]
        await journal.save([Change("a", "2", None)])
    async with Journal(path) as journal:
        assert await journal.documents("a") == ["one"]


async def test_effects_and_fences_survive(tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite"
    given = {"verb": "start", "target": "m", "epoch": 2, "digest": "d", "now": NOW}
    async with Journal(path) as journal:
        await journal.begin_effect("j/t/1", **given)  # type: ignore[arg-type]
        await journal.begin_effect("j/t/2", **given)  # type: ignore[arg-type]
        await journal.finish_effect("j/t/1", SUCCEEDED, "{}", NOW)
        assert await journal.raise_fence("j", 4) == 4
        assert await journal.raise_fence("j", 3) == 4
        assert await journal.raise_fence("k", 1) == 1
    async with Journal(path) as journal:
        first, second = await journal.effects()
        assert (first.succeeded, first.result, second.done_at) == (True, "{}", None)
        assert not await journal.is_newest_effect(first)
        assert await journal.is_newest_effect(second)
        assert await journal.raise_fence("j", 1) == 4
        assert await journal.effect("nobody") is None


@pytest.mark.parametrize("damage", ["no database", "another format", "damaged document"])
async def test_what_cannot_be_read_is_named(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "journal.sqlite"
    async with Journal(path) as journal:
        await journal.save([Change("fabric", "v", '{"vmm_id": 1')])
    match damage:
        case "no database":
            path.write_bytes(b"\0" * 5000)
        case "another format":
            with sqlite3.connect(path) as database:
                database.execute("PRAGMA user_version = 99")
            database.close()
        case _:
            pass
    with pytest.raises(ProgramError, match="journal") as failure:
        async with Journal(path) as journal:
            await InventoryStore(journal).load()
    assert len(str(failure.value).splitlines()) == 1


async def test_store_is_what_the_journal_holds(tmp_path: Path) -> None:
    hosts = [host(1), host(2)]
    async with Journal(tmp_path / "journal.sqlite") as journal:
        store = InventoryStore(journal)
        assert not await store.load()
        await store.seed(FABRIC, [CLOUD], hosts, [machine(1, hosts[0])])
        await store.change_machine("m1", lambda each: each.model_copy(update={"epoch": 7}))
        await store.add_machine(machine(2, hosts[1]))
        await store.remove_machine("m2")
        again = InventoryStore(journal)
        assert await again.load()
        assert again.machines == store.machines
        assert again.machine("m1").epoch == 7
        assert [each.machine_id for each in again.copies("h1")] == ["m1"]
        with pytest.raises(RefusedError):
            again.machine("m2")


async def test_a_change_that_is_refused_leaves_nothing(tmp_path: Path) -> None:
    async with Journal(tmp_path / "journal.sqlite") as journal:
        store = InventoryStore(journal)
        await store.seed(FABRIC, [CLOUD], [host(1)], [machine(1, host(1))])

        def refuse(present: MachineRecord) -> MachineRecord:
            raise RefusedError(32775, f"not {present.name}")

        with pytest.raises(RefusedError):
            await store.change_machine("m1", refuse)
        await store.change_machine("m1", lambda each: each.model_copy(update={"epoch": 1}))
        assert store.machine("m1").epoch == 1


def test_hosts_and_clouds_meet_in_host_groups() -> None:
    hosts = [host(3, "g2"), host(1), host(2, "elsewhere")]
    assert [each.fqdn for each in hosts_of(CLOUD, hosts)] == ["host1.example", "host3.example"]
    assert clouds_of(hosts[0], [CLOUD]) == ("cloud",)
    assert clouds_of(hosts[2], [CLOUD]) == ()


def test_a_replica_goes_where_fewest_machines_are() -> None:
    hosts = [host(number, "g1", "primary.example") for number in (1, 2, 3)]
    others = [machine(1, hosts[0]), machine(2, hosts[0]), machine(3, hosts[1])]
    assert chosen(hosts, others) == hosts[2]
    others.append(machine(4, hosts[2]))
    assert chosen(hosts, others) == hosts[1]
    assert chosen(hosts, others[::-1]) == hosts[1]


def test_a_replica_needs_a_prepared_host_that_authorises_its_primary() -> None:
    unprepared, foreign = host(1), host(2, "g1", "another.example")
    with pytest.raises(RefusedError, match="accepts replication from primary"):
        chosen([unprepared, foreign], [])
