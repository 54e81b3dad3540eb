"""Answers about machines, jobs and previews are what the OpenAPI document says of them."""

import json
from pathlib import Path

from service_hub.domain.protection import Operation
from service_hub.hub_api.authority_routes import QUESTIONS
from service_hub.hub_api.described import JSON, OPERATIONS
from service_hub.hub_api.looker_routes import (
    CHANGES,
    EXPORT,
    FIGURES,
    INVENTORIES,
    ITEM,
    ITEMS,
    MACHINES,
    PREVIEW,
    PROGRESS,
    RECEIPTS,
    TASK_RECEIPTS,
)
from service_hub.hub_api.server_routes import SERVERS
from service_hub.ports.changes import Change, Save
from tests.integration.test_looker_routes import served
from tests.support.hub_stories import ask, until_done
from tests.support.hub_world import MACHINE_ID
from tests.support.openapi_run import holds

LISTED = (CHANGES, EXPORT, INVENTORIES, MACHINES, ITEMS, ITEM, PROGRESS, RECEIPTS, TASK_RECEIPTS)


async def test_what_lookers_are_answered_fits_the_document(tmp_path: Path) -> None:
    async with served(tmp_path) as routes:
        world = routes.world
        job = await ask(world, Operation.PLANNED_FAILOVER)
        await until_done(world, job)
        questioned = {"authority_questioned_at": world.clock.now()}
        item = (await world.item()).model_copy(update=questioned)
        await world.committer.commit(Change(saves=(Save(item, None),)))
        names = {
            "vault_id": "vault",
            "item_id": MACHINE_ID,
            "job_id": job,
            "task_id": "ShutdownVmOnPrimary",
        }
        for path in (*LISTED, SERVERS, QUESTIONS):
            answer = await routes.ask("GET", path.format(**names))
            holds(OPERATIONS["GET", path].answers[JSON], await answer.read())
        for metric in ("rpo_seconds", "recovery_seconds"):
            answer = await routes.ask("GET", f"{FIGURES.format(**names)}?metric={metric}")
            holds(OPERATIONS["GET", FIGURES].answers[JSON], await answer.read())
        for operation in ("Commit", "ReverseReplicate", "PlannedFailover"):
            body = json.dumps({"operation": operation, "target": MACHINE_ID}).encode()
            answer = await routes.ask("POST", PREVIEW.format(**names), data=body)
            assert answer.status == 200
            holds(OPERATIONS["POST", PREVIEW].answers[JSON], await answer.read())
