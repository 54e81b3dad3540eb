"""Figures of protected items: taken from what providers report, and shown over time."""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

import structlog

from service_hub.domain.errors import NotFoundError, StaleVersionError
from service_hub.domain.liveness import OBSERVATION_INTERVAL, freshness
from service_hub.domain.looker_records import FigureChunk
from service_hub.domain.records import ProtectedItem, Provider, Vault
from service_hub.domain.rollups import (
    Metric,
    Resolution,
    Sample,
    chunk_begin,
    chunk_id,
    counts,
    empty_chunk,
    figures,
    outlived,
    samples_of,
    series_of,
    sources,
    too_old,
    with_sample,
)
from service_hub.looker_ports import SeenFigures
from service_hub.ports.changes import NEW, Change, Delete, Save, Versioned
from service_hub.ports.stores import Committer, Reader
from service_hub.ports.surroundings import Clock
from wire_contract.vmm_interface import MachineView
from wire_contract.vocabulary import Side

TRIES_MAX: Final = 20
"""How often a sample is counted anew because another one of the series came in between."""

PORTION_MAX: Final = 100
"""Samples of one inventory that are counted in one transaction."""

ASKED_BY_ID_MAX: Final = 8
"""Views whose items are read one by one; for more, and where ids do not tell all, each item of the
server is looked at."""

_FIRST: Final = datetime(1970, 1, 1, tzinfo=UTC)
_LAST: Final = datetime(9000, 1, 1, tzinfo=UTC)

log = structlog.get_logger(__name__)


class RollUpService:
    """Counts samples, and is the FigureUseCases of the looker ports."""

    def __init__(
        self,
        *,
        reader: Reader,
        committer: Committer,
        clock: Clock,
        interval: timedelta = OBSERVATION_INTERVAL,
    ) -> None:
        self._reader = reader
        self._committer = committer
        self._clock = clock
        self._interval = interval

    async def observed(
        self, provider: Provider, machines: Sequence[MachineView], at: datetime, source: str
    ) -> None:
        """Count what these views say of protected items; a repeated report counts once.

        `source` tells reports from inventories: the first have the provider's clock, the others
        ours.
        """
        items = await self._items(provider, machines)
        found = [
            (item, sample)
            for item, view in items
            for sample in samples_of(view.replication, at, f"{provider.id}/{source}")
        ]
        for start in range(0, len(found), PORTION_MAX):
            await self.count(found[start : start + PORTION_MAX])

    async def count(self, samples: Sequence[tuple[ProtectedItem, Sample]]) -> None:
        """Count samples of different series, together."""
        for _ in range(TRIES_MAX):
            # Side by side: the store makes one read of all that is asked at one moment.
            parts = await asyncio.gather(*(self.counted(item, each) for item, each in samples))
            change = Change(
                saves=[save for part in parts for save in part.saves],
                deletes=[delete for part in parts for delete in part.deletes],
            )
            if not change.saves:
                return
            try:
                await self._committer.commit(change)
            except StaleVersionError:
                continue
            return
        # A figure is less than a report: who reports is not refused for it.
        log.warning("figures_not_counted", samples=len(samples), tries=TRIES_MAX)

    async def counted(self, item: ProtectedItem, sample: Sample) -> Change:
        """Return the change that counts a sample, in all resolutions; empty for a repeated one."""
        now = self._clock.now()
        finest = await self._chunk(item, sample, Resolution.MINUTE)
        if too_old(sample, now) or not counts(finest.record, sample):
            return Change()
        change = Change()
        for resolution in Resolution:
            present = finest
            if resolution is not Resolution.MINUTE:
                present = await self._chunk(item, sample, resolution)
            chunk = with_sample(present.record, resolution, sample)
            change += Change(saves=(Save(chunk, present.version),))
            if present.version == NEW:
                change += await self._outlived(chunk.series, resolution, now)
        return change

    async def figures(
        self,
        vault: Vault,
        item_id: str,
        metric: Metric,
        resolution: Resolution,
        between: tuple[datetime | None, datetime | None],
    ) -> SeenFigures:
        """Return what was observed in a stretch of time; what was not observed is absent."""
        found = await self._reader.get(ProtectedItem, item_id.lower())
        if found is None or found.record.vault_id != vault.id:
            raise NotFoundError(item_id)
        series = series_of(found.record.id, metric, resolution)
        chunks = [each.record for each in await self._reader.find(FigureChunk, series=series)]
        begin, end = between
        now = self._clock.now()
        return SeenFigures(
            figures(chunks, resolution, begin or _FIRST, end or _LAST),
            [(each, freshness(each.observed_at, self._interval, now)) for each in sources(chunks)],
        )

    async def _items(
        self, provider: Provider, machines: Sequence[MachineView]
    ) -> list[tuple[ProtectedItem, MachineView]]:
        """Return the items whose copy on this server a view shows."""
        views = {view.machine_id.lower(): view for view in machines if view.replication is not None}
        if not views:
            return []
        if len(views) <= ASKED_BY_ID_MAX:
            named = [await self._reader.get(ProtectedItem, each) for each in _item_ids(views)]
            known = [(side, each.record) for side in Side for each in named if each is not None]
            found = _seen_in(views, known, provider)
            if len(found) == len(views):
                return found
        return _seen_in(views, await self._all_items(provider), provider)

    async def _all_items(self, provider: Provider) -> list[tuple[Side, ProtectedItem]]:
        """Return the items that have an end on this server."""
        return [
            (side, each.record)
            for side, column in (
                (Side.PRIMARY, "primary_provider_id"),
                (Side.RECOVERY, "recovery_provider_id"),
            )
            for each in await self._reader.find(ProtectedItem, **{column: provider.id})
        ]

    async def _chunk(
        self, item: ProtectedItem, sample: Sample, resolution: Resolution
    ) -> Versioned[FigureChunk]:
        series = series_of(item.id, sample.metric, resolution)
        place = chunk_id(series, chunk_begin(sample.at, resolution))
        found = await self._reader.get(FigureChunk, place)
        if found is not None:
            return found
        return Versioned(empty_chunk(item, sample.metric, resolution, sample.at), NEW)

    async def _outlived(self, series: str, resolution: Resolution, now: datetime) -> Change:
        chunks = await self._reader.find(FigureChunk, series=series)
        gone = [each.record.id for each in chunks if outlived(each.record, resolution, now)]
        return Change(deletes=tuple(Delete(FigureChunk, each) for each in gone))


def _seen_in(
    views: Mapping[str, MachineView],
    items: Iterable[tuple[Side, ProtectedItem]],
    provider: Provider,
) -> list[tuple[ProtectedItem, MachineView]]:
    """Return the items whose copy on this server is among the views."""
    return [
        (item, view)
        for side, item in items
        if item.provider_at(side) == provider.id
        and (view := views.get(item.machine_at(side).lower())) is not None
    ]


def _item_ids(views: Mapping[str, MachineView]) -> list[str]:
    """Return the ids that items of these views mostly have: an item has its first machine's id.

    A replica names that machine as its peer; the item itself is named only from the first word of
    the hub about the copy on.
    """
    ids: dict[str, None] = {}
    for view in views.values():
        peer = None if view.replication is None else view.replication.peer_machine_id
        ids |= dict.fromkeys(
            each.lower() for each in (view.protected_item, view.machine_id, peer) if each
        )
    return list(ids)
