import os
import shutil
import sqlite3
from pathlib import Path

import pytest

from tests.support.vmm_inventories import ALONE, cloud, fabric, host, machine
from vmm_simulator.journal import Change, Journal
from vmm_simulator.store import InventoryStore
from vmm_simulator.vmm.inventory import Edit

NOISE = 0xA5


async def site(folder: Path) -> tuple[list[str], list[str], int, int]:
    """Write an inventory and one more change; its documents before and after, and the log's size.

    The journal's files are copied while it is open, as they are when the program is killed.
    """
    path = folder / "journal.sqlite"
    log = folder / "journal.sqlite-wal"
    async with Journal(path) as journal:
        store = InventoryStore(journal)
        await store.seed(fabric(), [cloud()], [host(ALONE)], [machine(on=ALONE)])
        before, size_before = documents(path), log.stat().st_size
        moved = machine(on=ALONE, epoch=7, name="moved")
        await store.edit(lambda _: Edit(put=(moved, machine("m2", on=ALONE))))
        after, size_after = documents(path), log.stat().st_size
        assert before != after
        assert size_before < size_after
        for name in (path.name, log.name):
            shutil.copy(folder / name, folder / f"killed-{name}")
    return before, after, size_before, size_after


def documents(path: Path) -> list[str]:
    """Read a journal as it lies there; the look leaves its log as it is."""
    database = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    try:
        rows = database.execute("SELECT kind, id, body FROM documents ORDER BY kind, id")
        return ["|".join(row) for row in rows]
    finally:
        database.close()


def reopened(folder: Path, content: bytes) -> Path:
    """Lay out the journal as a kill left it, with this much of its log."""
    path = folder / "again.sqlite"
    shutil.copyfile(folder / "killed-journal.sqlite", path)
    path.with_name(path.name + "-wal").write_bytes(content)
    path.with_name(path.name + "-shm").unlink(missing_ok=True)
    return path


async def test_a_change_whose_record_is_cut_anywhere_is_not_seen_at_all(tmp_path: Path) -> None:
    before, after, first, last = await site(tmp_path)
    path = reopened(tmp_path, (tmp_path / "killed-journal.sqlite-wal").read_bytes())
    assert documents(path) == after
    log, index = path.with_name(path.name + "-wal"), path.with_name(path.name + "-shm")
    for length in range(last - 1, first - 1, -1):
        os.truncate(log, length)
        index.unlink(missing_ok=True)
        assert documents(path) == before, length


async def test_a_record_that_is_damaged_anywhere_is_not_seen_at_all(tmp_path: Path) -> None:
    before, _, first, last = await site(tmp_path)
    whole = (tmp_path / "killed-journal.sqlite-wal").read_bytes()
    for place in range(first, last, 97):
        torn = whole[:place] + bytes([whole[place] ^ NOISE]) + whole[place + 1 :]
        assert documents(reopened(tmp_path, torn)) == before, place


async def test_a_cut_journal_opens_with_the_inventory_of_before(tmp_path: Path) -> None:
    _, _, first, last = await site(tmp_path)
    whole = (tmp_path / "killed-journal.sqlite-wal").read_bytes()
    for length, epoch, number in ((first, 0, 0), (last - 1, 0, 0), (last, 7, 1)):
        async with Journal(reopened(tmp_path, whole[:length])) as journal:
            store = InventoryStore(journal)
            assert await store.load()
            assert store.machine("m1").epoch == epoch
            assert store.change_number == number
            assert ("m2" in store.machines) is bool(epoch)


@pytest.mark.parametrize("lost", ["grant", "changes"])
async def test_a_journal_of_before_a_kind_was_kept_loads(tmp_path: Path, lost: str) -> None:
    path = tmp_path / "journal.sqlite"
    async with Journal(path) as journal:
        store = InventoryStore(journal)
        await store.seed(fabric(), [cloud()], [host(ALONE)], [machine(on=ALONE)])
        await journal.save([Change(lost, "x", None)])
        again = InventoryStore(journal)
        assert await again.load()
        assert again.inventory == store.inventory
