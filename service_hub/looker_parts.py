"""Part of the composition root: what serves whoever looks on, and what it learns from."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Final

import structlog

from service_hub.domain.errors import StorageUnavailableError
from service_hub.domain.liveness import OBSERVATION_INTERVAL
from service_hub.hub_api.looker_routes import LookerApi
from service_hub.hub_api.server_routes import ServersApi
from service_hub.job_archive import FileArchive
from service_hub.plan_ports import RecoveryPlanUseCases
from service_hub.ports.running import Checker
from service_hub.ports.stores import Committer, WideReader
from service_hub.ports.surroundings import Clock
from service_hub.services.changes import ChangeService
from service_hub.services.durations import DurationService, Learning
from service_hub.services.fabrics import FabricService
from service_hub.services.observations import ObservationService
from service_hub.services.preview import PreviewService
from service_hub.services.retention import ExportService, Retention
from service_hub.services.rollups import RollUpService

LEARN_SECONDS: Final = 10.0
RETENTION_SECONDS: Final = 3600.0
FIRST_SECONDS_MAX: Final = 60.0

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class LookerParts:
    """The use cases, and the two rounds that a hub makes beside them."""

    changes: ChangeService
    observations: ObservationService
    figures: RollUpService
    previews: PreviewService
    exports: ExportService
    learning: Learning
    retention: Retention

    def api(self, door: ServersApi) -> LookerApi:
        """Return what the routes need."""
        return LookerApi(
            door=door,
            changes=self.changes,
            observations=self.observations,
            figures=self.figures,
            previews=self.previews,
            exports=self.exports,
        )

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Wake who waits for changes, learn and archive while the context is open."""
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(self.changes.watching())
            group = await stack.enter_async_context(asyncio.TaskGroup())
            rounds = [
                group.create_task(_again_and_again("learning", self.learning.look, LEARN_SECONDS)),
                group.create_task(
                    _again_and_again("retention", self.retention.round, RETENTION_SECONDS)
                ),
            ]
            try:
                yield
            finally:
                for each in rounds:
                    each.cancel()


async def _again_and_again(name: str, work: Callable[[], Awaitable[int]], seconds: float) -> None:
    # Soon for the first time, also for a hub that is restarted every day.
    pause = min(seconds, FIRST_SECONDS_MAX)
    while True:
        await asyncio.sleep(pause)
        pause = seconds
        try:
            await work()
        except StorageUnavailableError as error:
            # Said once by who writes; a trace would tell nothing more.
            log.warning("round_put_off", round=name, cause=str(error))
        except Exception:
            # Nothing that a job or a site waits for: the next round finds what this one left.
            log.exception("round_broke_off", round=name)


def looker_parts(
    reader: WideReader,
    committer: Committer,
    clock: Clock,
    *,
    fabrics: FabricService,
    checker: Checker,
    plans: RecoveryPlanUseCases,
    archive_directory: Path,
    retention: timedelta,
    interval: timedelta = OBSERVATION_INTERVAL,
) -> LookerParts:
    """Make the parts; `checker` makes the hub's own checks of all jobs.

    `interval` is how often providers promise to tell what they manage.
    """
    durations = DurationService(reader=reader)
    figures = RollUpService(reader=reader, committer=committer, clock=clock, interval=interval)
    return LookerParts(
        changes=ChangeService(reader=reader),
        observations=ObservationService(
            reader=reader, clock=clock, durations=durations, interval=interval
        ),
        figures=figures,
        previews=PreviewService(
            reader=reader,
            clock=clock,
            fabrics=fabrics,
            checker=checker,
            durations=durations,
            observation_interval=interval,
            saved=plans,
        ),
        exports=ExportService(reader=reader),
        learning=Learning(reader=reader, committer=committer, rollups=figures),
        retention=Retention(
            reader=reader,
            committer=committer,
            clock=clock,
            archive=FileArchive(archive_directory),
            kept=retention,
        ),
    )
