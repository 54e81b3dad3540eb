"""The plan that is measured: items, each with a job of eight dispatched tasks, and seeded answers.

The jobs are made as the use cases make them (`plan_item_job`), so that they have the size of real
ones; only their task list is our own, a scenario beside those of the product: eight tasks of one
end each, so that every task is one command and one answer.
"""

import random
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final, cast

from service_hub.domain.jobs import Job, TaskRun
from service_hub.domain.planning import ItemPlan, JobIdentity, begin_on_item, plan_item_job
from service_hub.domain.protection import Operation, ProtectionState
from service_hub.domain.records import ProtectedItem, Provider, ProviderStream, ReplicationPolicy
from service_hub.domain.scenarios import PLANNED_FAILOVER, SCENARIOS, Scenario, TaskSpec
from service_hub.ports.changes import NEW, Save
from wire_contract.vocabulary import Side, Verb

SEED: Final = 7
ANSWER_SECONDS: Final = (0.05, 0.5)
"""Between these a provider's answer takes its time, evenly spread."""

PAIRS: Final = 10
"""Pairs of servers that the items are spread over."""

_NAMES: Final = uuid.UUID("6f1f5f0e-7a0c-4a39-9d0e-3a5d5b1d8f10")
VAULT_ID: Final = str(uuid.uuid5(_NAMES, "vault"))

_P, _R = (Side.PRIMARY,), (Side.RECOVERY,)

TASKS: Final = (
    TaskSpec("ShutDown", "ShutDown", "Shut down the virtual machine", _P, Verb.SHUT_DOWN),
    TaskSpec("Prepare", "Prepare", "Preparing for failover", _P, Verb.PREPARE_FAILOVER),
    TaskSpec("Synchronize", "Synchronize", "Synchronizing", _P, Verb.SYNCHRONIZE),
    TaskSpec("FailOver", "FailOver", "Start failover", _R, Verb.FAIL_OVER, raises_epoch=True),
    TaskSpec("Start", "Start", "Start the replica virtual machine", _R, Verb.START),
    TaskSpec("Commit", "Commit", "Commit", _R, Verb.COMMIT),
    TaskSpec("UpdatePrimary", "UpdatePrimary", "Updating", _P, Verb.UPDATE_PROTECTION),
    TaskSpec("UpdateRecovery", "UpdateRecovery", "Updating", _R, Verb.UPDATE_PROTECTION),
)
"""Eight commands for an item: as in a failover, its fourth task raises the epoch."""

CHECK: Final = TaskSpec("Check", "Check", "Prerequisites check")
"""A check of the hub's own: what a hub that starts anew makes again before it commands anything."""

PLAIN_KEY: Final = "bench"
CHECKED_KEY: Final = "bench_checked"


def add_scenarios() -> None:
    """Add the task lists to this process's table of scenarios, as those of real operations are."""
    table = cast("dict[str, Scenario]", SCENARIOS)
    for key, tasks in ((PLAIN_KEY, TASKS), (CHECKED_KEY, (CHECK, *TASKS))):
        table[key] = replace(PLANNED_FAILOVER, tasks=tasks)


def item_id(number: int) -> str:
    """Return the id of an item."""
    return str(uuid.uuid5(_NAMES, f"item {number}"))


def job_id(number: int) -> str:
    """Return the id of an item's job."""
    return str(uuid.uuid5(_NAMES, f"job {number}"))


def provider_ids() -> list[str]:
    """Return the ids of all servers' providers."""
    return [_provider_id(pair, side) for pair in range(PAIRS) for side in Side]


def answer_seconds(number: int) -> dict[str, float]:
    """Return how long the answer to each task of an item takes: the same in every run."""
    chance = random.Random(f"{SEED}/{number}")  # noqa: S311 -- the same answers in every run
    return {spec.task_id: chance.uniform(*ANSWER_SECONDS) for spec in TASKS}


def ideal_seconds(items: int) -> float:
    """Return how long the plan takes where nothing but the answers takes time."""
    return max(sum(answer_seconds(number).values()) for number in range(items))


@dataclass(frozen=True, slots=True)
class Begin:
    """An item that is free, and the job that is to run on it."""

    item: ProtectedItem
    job: Job

    def saves(self, now: datetime) -> tuple[Save, ...]:
        """Return what is stored with the job: the item, busy; it was stored free before."""
        return (Save(begin_on_item(self.item, self.job, now), NEW + 1),)


class Plan:
    """Everything that the jobs of a run are made from."""

    def __init__(self, now: datetime, scenario_key: str = PLAIN_KEY) -> None:
        add_scenarios()
        self._now = now
        self._key = scenario_key
        self._policy = ReplicationPolicy(
            id=str(uuid.uuid5(_NAMES, "policy")),
            vault_id=VAULT_ID,
            name="bench",
            provider_type="HyperVReplica2012R2",
        )
        self._providers = {
            (pair, side): self._provider(pair, side) for pair in range(PAIRS) for side in Side
        }

    def free_items(self, items: int) -> Iterator[Save]:
        """Yield what has to be there before the plan begins."""
        for provider_id in provider_ids():
            stream = ProviderStream(
                id=provider_id,
                vault_id=VAULT_ID,
                stream=str(uuid.uuid5(_NAMES, f"stream {provider_id}")),
            )
            yield Save(stream, NEW)
        for number in range(items):
            yield Save(self._item(number), NEW)

    def begin(self, number: int) -> Begin:
        """Return an item and its job."""
        item, pair = self._item(number), number % PAIRS
        plan = ItemPlan(
            item=item,
            policy=self._policy,
            primary=self._providers[pair, Side.PRIMARY],
            recovery=self._providers[pair, Side.RECOVERY],
            clouds={item.primary_cloud_id: "gold", item.recovery_cloud_id: "silver"},
            machine=None,
        )
        identity = JobIdentity(job_id(number), job_id(number), self._now)
        job = plan_item_job(plan, Operation.PLANNED_FAILOVER, {}, identity)
        tasks = tuple(TaskRun(task_id=spec.task_id) for spec in SCENARIOS[self._key].tasks)
        return Begin(item, job.model_copy(update={"tasks": tasks, "scenario_key": self._key}))

    def _provider(self, pair: int, side: Side) -> Provider:
        provider_id = _provider_id(pair, side)
        return Provider(
            id=provider_id,
            vault_id=VAULT_ID,
            vmm_id=provider_id,
            vmm_fqdn=f"vmm{pair}.{side.value.lower()}.bench",
            friendly_name=f"vmm{pair}.{side.value.lower()}.bench",
            fabric_name=f"{pair:064x}",
            enrolled_at=self._now,
            registered_at=self._now,
        )

    def _item(self, number: int) -> ProtectedItem:
        pair = number % PAIRS
        return ProtectedItem(
            id=item_id(number),
            vault_id=VAULT_ID,
            friendly_name=f"machine-{number}",
            mapping_id=str(uuid.uuid5(_NAMES, f"mapping {pair}")),
            policy_id=self._policy.id,
            primary_provider_id=_provider_id(pair, Side.PRIMARY),
            primary_cloud_id=str(uuid.uuid5(_NAMES, f"cloud {pair} primary")),
            primary_machine_id=item_id(number),
            primary_host=f"host{pair}.primary.bench",
            recovery_provider_id=_provider_id(pair, Side.RECOVERY),
            recovery_cloud_id=str(uuid.uuid5(_NAMES, f"cloud {pair} recovery")),
            recovery_machine_id=str(uuid.uuid5(_NAMES, f"replica {number}")),
            recovery_host=f"host{pair}.recovery.bench",
            relationship_id=str(uuid.uuid5(_NAMES, f"relationship {number}")),
            state=ProtectionState.PROTECTED,
        )


def _provider_id(pair: int, side: Side) -> str:
    return str(uuid.uuid5(_NAMES, f"provider {pair} {side.value}"))
