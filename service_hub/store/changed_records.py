"""Which change was each record's last, where PostgreSQL keeps it: made anew from the records."""

from collections.abc import Iterator

import sqlalchemy as sa

from service_hub.domain.records import Record, Vault
from service_hub.store.tables import CHANGED_RECORD, SHOWN, TABLES


def note_all(connection: sa.Connection) -> None:
    """Note the last change of every record; what was noted before is gone."""
    connection.execute(sa.delete(CHANGED_RECORD))
    for kind in SHOWN:
        names = ["kind", "id", "vault_id", "change"]
        connection.execute(sa.insert(CHANGED_RECORD).from_select(names, _as_noted(kind)))


def wrongly_noted(connection: sa.Connection) -> Iterator[str]:
    """Yield the records whose last change is noted wrongly, or not at all, and what is too much."""
    noted = CHANGED_RECORD.c
    for kind in sorted(SHOWN, key=lambda kind: kind.kind):
        there = _as_noted(kind).subquery()
        of_kind = sa.select(CHANGED_RECORD).where(noted.kind == kind.kind).subquery()
        pairs = sa.join(there, of_kind, there.c.id == of_kind.c.id, full=True)
        differs = sa.or_(
            there.c.change.is_distinct_from(of_kind.c.change),
            there.c.vault_id.is_distinct_from(of_kind.c.vault_id),
        )
        query = sa.select(sa.func.coalesce(there.c.id, of_kind.c.id)).select_from(pairs)
        for (record_id,) in connection.execute(query.where(differs)):
            yield f"{kind.kind} {record_id}: its last change is noted wrongly"


def _as_noted(kind: type[Record]) -> sa.Select[tuple[str, str, str, int]]:
    table = TABLES[kind].c
    vault = sa.func.lower(table.id) if kind is Vault else table.vault_id
    name = sa.literal(kind.kind, sa.Text).label("kind")
    return sa.select(name, table.id, vault.label("vault_id"), table.change)
