"""Missing tests, and what is left of a failover that was not planned."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from service_hub.arm.failover_health import (
    failover_errors,
    failover_health,
    split_brain_errors,
)
from service_hub.domain.protection import ProtectionState
from service_hub.ports.use_cases import ItemFacts
from tests.unit.arm.arm_estate import NOW
from tests.unit.arm.conftest import Surface
from tests.unit.arm.test_arm_item_health import item_facts, seen
from wire_contract.vocabulary import ReplicationMode, RunState, Side

LONG_AGO = NOW - timedelta(days=400)


def facts_with(**update: Any) -> ItemFacts:
    facts = item_facts()
    return replace(facts, item=facts.item.model_copy(update=update))


@pytest.mark.parametrize(
    ("protected_at", "tested_at", "codes", "health"),
    [
        (None, None, [], "Normal"),
        (NOW - timedelta(hours=3), None, [], "Normal"),
        (NOW - timedelta(hours=5), None, ["161011"], "Critical"),
        (LONG_AGO, NOW - timedelta(days=100), [], "Normal"),
        (LONG_AGO, NOW - timedelta(days=190), ["90043"], "Warning"),
    ],
)
def test_a_test_failover_is_asked_for(
    protected_at: Any, tested_at: Any, codes: list[str], health: str
) -> None:
    facts = facts_with(protected_at=protected_at, last_test_failover_at=tested_at)
    errors = failover_errors(facts, NOW)
    assert [error["errorCode"] for error in errors] == codes
    assert failover_health(errors) == health


def test_nobody_is_asked_while_it_is_failed_over() -> None:
    state = ProtectionState.PLANNED_FAILED_OVER
    assert failover_errors(facts_with(protected_at=LONG_AGO, state=state), NOW) == []


def failed_over(**source: Any) -> ItemFacts:
    facts = facts_with(
        state=ProtectionState.UNPLANNED_FAILED_OVER,
        active_location=Side.RECOVERY,
        last_failover_at=NOW,
    )
    former = seen(facts.primary_machine, last_record=90)
    machine = former.machine.model_copy(update=source)
    holder = seen(facts.recovery_machine, mode=ReplicationMode.REPLICA, last_cut_record=40)
    former = former.model_copy(update={"machine": machine})
    return replace(facts, primary_machine=former, recovery_machine=holder)


def test_a_source_that_may_still_run_is_warned_about_until_it_is_fenced() -> None:
    facts = failed_over()
    assert facts.primary_machine is not None
    early = facts.primary_machine.model_copy(update={"observed_at": NOW - timedelta(seconds=1)})
    (warning,) = split_brain_errors(replace(facts, primary_machine=early), NOW)
    assert (warning["errorCode"], warning["errorLevel"]) == ("90041", "Warning")
    late = facts.primary_machine.model_copy(update={"observed_at": NOW + timedelta(seconds=1)})
    assert split_brain_errors(replace(facts, primary_machine=late), NOW) == []
    facts = failed_over(fenced=True)
    assert facts.primary_machine is not None
    late = facts.primary_machine.model_copy(update={"observed_at": NOW + timedelta(seconds=1)})
    (fenced,) = split_brain_errors(replace(facts, primary_machine=late), NOW)
    assert fenced["errorCode"] == "90042"
    assert "holds 50 records" in fenced["errorMessage"]


@pytest.mark.parametrize(
    ("update", "codes"),
    [
        ({"run_state": RunState.RUNNING}, ["90118"]),
        ({"run_state": RunState.PAUSED}, ["90118"]),
        ({"run_state": RunState.OFF}, []),
        ({"run_state": RunState.RUNNING, "fenced": True}, []),
    ],
)
@pytest.mark.parametrize(
    "state", [ProtectionState.UNPLANNED_UNDO_FAILED, ProtectionState.OVERRIDDEN]
)
def test_a_copy_that_lost_the_authority_is_warned_about_while_it_may_run(
    state: ProtectionState, update: dict[str, Any], codes: list[str]
) -> None:
    facts = facts_with(state=state)
    left = seen(facts.recovery_machine, mode=ReplicationMode.REPLICA)
    left = left.model_copy(update={"machine": left.machine.model_copy(update=update)})
    errors = split_brain_errors(replace(facts, recovery_machine=left), NOW)
    assert [each["errorCode"] for each in errors] == codes
    assert all("may still run" in each["errorMessage"] for each in errors)


async def test_the_item_shows_both_healths(surface: Surface) -> None:
    properties = (await surface.body(surface.item))["properties"]
    assert properties["failoverHealth"] == "Normal"
    assert properties["healthErrors"] == []
