"""The same plan on a general durable engine, `dbos`, in a process of its own.

    general_engine_process.py ORDER

One workflow for each item, eight steps each; a step takes as long as the provider's answer. As its
documentation advises where much waits at the same time: asynchronous workflows and steps in one
loop. Everything else is as it comes.
"""

import asyncio
import gc
import importlib
import importlib.metadata
import json
import sys
import time
from typing import Any

import uvloop

from benchmarks.engine.workload import TASKS, answer_seconds

NAME = "bench"


async def run_plan(dbos: Any, items: int) -> dict[str, Any]:
    """Run the whole plan; return how long it took and what it needed."""

    @dbos.DBOS.step()  # type: ignore[untyped-decorator, unused-ignore]
    async def command(task_id: str, seconds: float) -> dict[str, Any]:
        await asyncio.sleep(seconds)
        return {"task": task_id, "state": "Running", "epoch": 2, "result": {"cut": 12}}

    @dbos.DBOS.workflow()  # type: ignore[untyped-decorator, unused-ignore]
    async def fail_over(number: int) -> int:
        answers = answer_seconds(number)
        for task in TASKS:
            await command(task.task_id, answers[task.task_id])
        return number

    dbos.DBOS.launch()
    gc.collect()
    began, processor = time.monotonic(), time.process_time()
    handles = await asyncio.gather(
        *(dbos.DBOS.start_workflow_async(fail_over, number) for number in range(items))
    )
    results = await asyncio.gather(*(handle.get_result() for handle in handles))
    ended, used = time.monotonic(), time.process_time()
    assert sorted(results) == list(range(items)), "every workflow has ended"
    return {"seconds": ended - began, "processor_seconds": used - processor}


def main(order: dict[str, Any]) -> int:
    """Measure what is ordered and print it."""
    dbos = importlib.import_module("dbos")  # needed by this measurement alone: extra `bench`
    dbos.DBOS(
        config={
            "name": NAME,
            "system_database_url": order["database"],
            "log_level": "WARNING",
        }
    )
    try:
        told = uvloop.run(run_plan(dbos, order["items"]))
    finally:
        dbos.DBOS.destroy()
    version = importlib.metadata.version("dbos")
    sys.stdout.write(json.dumps({**told, "version": version}) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(json.loads(sys.argv[1])))
