"""A signed plan as the hub sees it: each machine and each script, at its beginning and again."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from certs.channel_integrity import new_key
from service_hub.domain.errors import (
    InvalidRequestError,
    SignatureEndedError,
    SignatureRequiredError,
)
from service_hub.domain.jobs import Dispatch, Job, JobState, RestartRequested, TaskState
from service_hub.domain.operator_signatures import member_signature, with_member_signatures
from service_hub.domain.plan_orders import (
    check_going_on,
    check_scripts,
    orders_of,
    signature_of_task,
    told_orders,
)
from service_hub.domain.planning import JobIdentity
from service_hub.domain.plans import PlanGroup, PlannedAction, PlanRequest, plan_job
from service_hub.domain.protection import Operation
from service_hub.domain.records import Vault
from service_hub.domain.restart import restarted
from service_hub.domain.scenarios import ScriptSpec
from site_recovery_cli.operator_signature import SIGNATURE_LIFE, OperatorSignaturePolicy
from site_recovery_cli.plan_orders import orders_in
from tests.integration.agent_fakes.waiting import HastyClock
from wire_contract.vocabulary import Direction, Side, Verb

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
LATER = NOW + SIGNATURE_LIFE + timedelta(minutes=1)


class StillClock(HastyClock):
    """Time stands still."""

    def __init__(self, time: datetime) -> None:
        super().__init__()
        self.time = time

    def now(self) -> datetime:
        """Return that moment."""
        return self.time


def vault(**changes: Any) -> Vault:
    return Vault(
        id="v",
        vault_id="v",
        subscription_id="s",
        resource_group="rg",
        name="v",
        location="here",
        resource_number=1,
        created_at=NOW,
        **{"requires_operator_signature": True, **changes},
    )


def job() -> Job:
    tell = PlannedAction("Tell", script=ScriptSpec("RPScripts/tell.sh", 60, Side.RECOVERY))
    groups = (
        PlanGroup("Group 1", ("web01",), after=(tell,)),
        PlanGroup("Group 2", ("db01",)),
    )
    request = PlanRequest(
        "plan-1",
        "Payroll",
        Operation.PLANNED_FAILOVER,
        groups,
        {"failover_direction": "PrimaryToRecovery"},
        providers={Side.PRIMARY: "a", Side.RECOVERY: "b"},
        machines={
            each: {"name": each, "Primary": f"p-{each}", "Recovery": f"r-{each}"}
            for each in ("web01", "db01")
        },
    )
    return plan_job("v", request, JobIdentity("j", "activity", NOW))


def signed(of: Job, now: datetime = NOW) -> dict[str, str]:
    """Return what the client makes of what the hub tells it."""
    orders = orders_in({"operator_orders": told_orders(of)})
    assert orders is not None
    signing = OperatorSignaturePolicy(new_key(), StillClock(now))
    return {
        **signing.of_each(orders.operation, orders.items, orders.direction),
        **signing.of_scripts(orders.operation, orders.scripts),
    }


def ended(of: Job, done: int) -> Job:
    """Return the job as one that failed after so many of its tasks."""
    tasks = tuple(
        each.model_copy(
            update={"state": TaskState.SUCCEEDED if at < done else TaskState.FAILED, "tries": 1}
        )
        for at, each in enumerate(of.tasks)
    )
    return of.model_copy(update={"state": JobState.FAILED, "tasks": tasks})


def test_a_plan_is_signed_for_with_its_scripts() -> None:
    plan = job()
    given = signed(plan)
    assert set(given) == set(orders_of(plan))
    (key,) = [each for each in given if each.startswith("script/")]
    check_scripts(vault(), plan, given)
    check_scripts(vault(requires_operator_signature=False), plan, {})
    with pytest.raises(SignatureRequiredError, match="a script of PlannedFailover"):
        check_scripts(vault(), plan, {"web01": given["web01"], "db01": given["db01"]})
    with pytest.raises(InvalidRequestError, match="not for a script"):
        check_scripts(vault(), plan, {**given, key: given["web01"]})
    with pytest.raises(InvalidRequestError, match="malformed"):
        check_scripts(vault(), plan, {**given, key: "{}"})
    carries = with_member_signatures(plan, given)
    (task,) = [spec.task_id for spec in plan.own_specs if spec.script is not None]
    runs = Dispatch(task, Side.RECOVERY, 1, Verb.RUN_SCRIPT, NOW)
    assert signature_of_task(carries, runs) == given[key]
    assert signature_of_task(carries, replace(runs, verb=Verb.START)) is None
    assert signature_of_task(plan, runs) is None


def test_what_is_left_of_a_plan_is_signed_anew_when_its_signatures_have_ended() -> None:
    failed = ended(with_member_signatures(job(), signed(job())), done=0)
    check_going_on(vault(), failed, "restart", {}, NOW)
    with pytest.raises(SignatureEndedError, match=r"90019: .* ended at .* Sign the restart"):
        check_going_on(vault(), failed, "restart", {}, LATER)
    anew = signed(failed, LATER)
    check_going_on(vault(), failed, "restart", anew, LATER)
    check_going_on(vault(requires_operator_signature=False), failed, "restart", {}, LATER)
    with pytest.raises(SignatureRequiredError):
        check_going_on(vault(), ended(job(), done=0), "restart", {}, NOW)
    # Of what has succeeded nothing is wanted.
    group_two = len(failed.tasks) - 1
    rest = ended(failed, group_two)
    check_going_on(vault(), rest, "restart", {"DB01": anew["db01"]}, LATER)
    with pytest.raises(SignatureEndedError):
        check_going_on(vault(), rest, "restart", {"web01": anew["web01"]}, LATER)
    event = RestartRequested(LATER, "anna", member_signatures={"db01": anew["db01"]})
    again = restarted(ended(failed, group_two), event)
    assert member_signature(again, "db01") == anew["db01"]
    assert member_signature(again, "web01") == member_signature(failed, "web01")


def test_what_is_signed_for_says_the_direction_where_the_operation_has_one() -> None:
    way = {each.direction for each in orders_of(job()).values()}
    assert way == {Direction.PRIMARY_TO_RECOVERY}
