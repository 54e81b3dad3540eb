"""Journals of former versions, recorded: what they hold is read, used and written again."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.simulator_estate import MACHINE, REPLICA
from vmm_simulator.journal import Change, Journal
from vmm_simulator.store import InventoryStore
from vmm_simulator.vmm.clusters import broker_missing
from vmm_simulator.vmm.estate_edits import checked, put_part
from vmm_simulator.vmm.estate_records import ClassificationRecord
from vmm_simulator.vmm.rules import broken_rules
from wire_contract.vocabulary import ReplicationMode, ReplicationState

RECORDED = Path(__file__).parents[2] / "fixtures/simulator_journals"
SITES = ("tokyo", "osaka")


def recorded(site: str) -> list[tuple[str, str, dict[str, Any]]]:
    rows = json.loads((RECORDED / "first.json").read_text())[site]
    return [(kind, identity, body) for kind, identity, body in rows]


async def loaded(journal: Journal, site: str) -> InventoryStore:
    rows = recorded(site)
    await journal.save([Change(kind, key, json.dumps(body)) for kind, key, body in rows])
    store = InventoryStore(journal)
    assert await store.load()
    return store


@pytest.mark.parametrize("site", SITES)
async def test_a_journal_of_the_first_version_is_read_whole(tmp_path: Path, site: str) -> None:
    async with Journal(tmp_path / "journal.sqlite") as journal:
        store = await loaded(journal, site)
        assert not tuple(broken_rules(store.inventory))
        assert len(store.hosts) == 2
        assert all(host.replica_port == 8084 for host in store.hosts.values())
        machine = store.machine(MACHINE if site == "tokyo" else REPLICA)
        assert (machine.state, machine.epoch) == (ReplicationState.REPLICATING, 1)
        assert machine.protected_item == MACHINE
        relationship = machine.relationship
        assert relationship is not None
        assert relationship.last_cut >= 4
        assert relationship.statistics.success_count >= 4


async def test_what_the_first_version_did_not_keep_is_filled_in(tmp_path: Path) -> None:
    async with Journal(tmp_path / "journal.sqlite") as journal:
        store = await loaded(journal, "tokyo")
        fabric = store.fabric
        assert [each.unc for each in fabric.library_shares] == [
            "\\\\vmm.tokyo.example\\MSSCVMMLibrary"
        ]
        (cluster,) = fabric.clusters
        assert (cluster.name, cluster.broker is not None) == ("cluster.tokyo.example", True)
        assert all(broker_missing(fabric, host) is None for host in store.hosts.values())
        assert store.change_number == 0
        assert store.machine(MACHINE).mode is ReplicationMode.PRIMARY


@pytest.mark.parametrize("site", SITES)
async def test_it_goes_on_from_there_and_is_read_again(tmp_path: Path, site: str) -> None:
    async with Journal(tmp_path / "journal.sqlite") as journal:
        store = await loaded(journal, site)
        record = ClassificationRecord(classification_id="new", name="New")
        await store.edit(checked(lambda each: put_part(each, "classifications", record)))
        for machine_id in list(store.machines):
            await store.change_machine(
                machine_id, lambda each: each.model_copy(update={"epoch": each.epoch + 1})
            )
        again = InventoryStore(journal)
        assert await again.load()
        assert again.inventory == store.inventory
        assert again.change_number == store.change_number >= 2


async def test_an_unprepared_cluster_of_the_first_version_waits_for_its_pairing(
    tmp_path: Path,
) -> None:
    async with Journal(tmp_path / "journal.sqlite") as journal:
        store = await loaded(journal, "tokyo")
        for fqdn in list(store.hosts):
            await store.change_host(
                fqdn,
                lambda each: each.model_copy(update={"replica_port": None, "replica_ports": {}}),
            )
        # As that version would have written it: clusters only by name.
        bare = store.fabric.model_copy(update={"clusters": ()})
        await journal.save([Change("fabric", bare.vmm_id, bare.model_dump_json())])
        again = InventoryStore(journal)
        assert await again.load()
        (cluster,) = again.fabric.clusters
        assert cluster.broker is None
