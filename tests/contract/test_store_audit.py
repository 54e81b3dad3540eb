"""The audit log in both databases: appended in the change's transaction, chained per vault."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from service_hub.domain.audit import AuditEntry, AuditPlace, exported
from service_hub.domain.errors import StaleVersionError
from service_hub.domain.records import Vault
from service_hub.ports.changes import NEW, Change, Save
from service_hub.store.record_store import RecordStore
from tests.support.store_world import BOTH, NOW, opened_store, vault
from wire_contract.audit_chain import broken_at, hash_of


@pytest.fixture(params=BOTH)
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[RecordStore]:
    async with opened_store(request, tmp_path) as opened:
        yield opened


def line(text: str, vault_id: str = "v") -> AuditEntry:
    return AuditEntry(vault_id, NOW, text)


async def texts(store: RecordStore, vault_id: str = "v") -> list[str]:
    return [each.text for each in await store.audit_lines(vault_id, None, 100)]


async def test_a_line_is_stored_with_its_change_or_not_at_all(store: RecordStore) -> None:
    outcomes = await store.apply(
        [
            Change(saves=[Save(vault(), NEW)], audit=[line("made")]),
            Change(saves=[Save(vault(), NEW)], audit=[line("made again")]),
            Change(audit=[line("refused"), line("elsewhere", "w"), line("told")]),
        ]
    )
    assert isinstance(outcomes[1], StaleVersionError)
    assert await texts(store) == ["made", "refused", "told"]
    assert await texts(store, "W") == ["elsewhere"]
    assert await texts(store, "") == []
    assert await store.find(Vault)


async def test_each_line_follows_the_one_before_it_in_its_vault(store: RecordStore) -> None:
    for number in range(3):
        await store.apply(
            [
                Change(audit=[line(f"{number} a"), line(f"{number} other", "w")]),
                Change(audit=[line(f"{number} b")]),
            ]
        )
    found = await store.audit_lines("v", None, 100)
    assert [each.text for each in found] == ["0 a", "0 b", "1 a", "1 b", "2 a", "2 b"]
    assert found[0].hash == hash_of("", "0 a")
    assert broken_at([exported(each) for each in found]) is None
    others = await store.audit_lines("w", None, 100)
    assert broken_at([exported(each) for each in others]) is None
    assert len(others) == 3


async def test_lines_are_read_page_by_page(store: RecordStore) -> None:
    await store.apply([Change(audit=[line(str(number)) for number in range(5)])])
    after: AuditPlace | None = None
    seen = []
    while page := await store.audit_lines("v", after, 2):
        assert len(page) <= 2
        seen += [each.text for each in page]
        after = page[-1].place
    assert seen == ["0", "1", "2", "3", "4"]
