"""`site-recovery failover ...` against the ARM surface: sent, refused before sending, followed."""

import json
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
from aiohttp import web

from certs.channel_integrity import holds, new_key
from service_hub.domain.operator_signatures import member_signature
from service_hub.domain.protection import ProtectionState
from service_hub.domain.recovery_plans import GroupType, RecoveryGroup, RecoveryPlan, arranged
from site_recovery_cli.exit_codes import ExitCode
from tests.support.cli_world import Shell, cli_hub
from tests.unit.arm.arm_estate import MACHINE, NETWORK, POINT
from wire_contract.operator_signature import Order, SignedOperation, read_signature
from wire_contract.vocabulary import Direction, Side

S = ProtectionState


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    with cli_hub(tmp_path) as hub:
        opened = Shell(hub, tmp_path / "profiles")
        opened.login()
        yield opened


def put(shell: Shell, state: ProtectionState, active: Side = Side.PRIMARY, **more: object) -> None:
    item = shell.hub.hub.items[MACHINE]
    changes = {"state": state, "active_location": active, "current": None, **more}
    shell.hub.hub.items[MACHINE] = item.model_copy(update=changes)


def make_plan(shell: Shell) -> None:
    item = shell.hub.hub.items[MACHINE]
    boot = RecoveryGroup(group_type=GroupType.BOOT, members=(item.id,))
    shell.hub.hub.plans["plan"] = RecoveryPlan(
        id="plan",
        vault_id="v",
        name="O'Neil",
        primary_provider_id=item.primary_provider_id,
        recovery_provider_id=item.recovery_provider_id,
        groups=arranged((boot,)),
    )


@pytest.mark.parametrize(
    ("command", "state", "active", "arguments"),
    [
        (["test"], S.PROTECTED, Side.PRIMARY, {"failover_direction": "PrimaryToRecovery"}),
        (
            ["test", "--network", "vmm.recovery.example/corp"],
            S.PROTECTED,
            Side.PRIMARY,
            {"network_id": NETWORK},
        ),
        (["cleanup", "--comments", "fine"], S.TEST_OPEN, Side.PRIMARY, {"comments": "fine"}),
        (["planned"], S.PROTECTED, Side.PRIMARY, {"failover_direction": "PrimaryToRecovery"}),
        (["planned"], S.PROTECTED, Side.RECOVERY, {"failover_direction": "RecoveryToPrimary"}),
        (
            ["unplanned", "--with-source", "--recovery-point", POINT],
            S.PROTECTED,
            Side.PRIMARY,
            {"source_operations_required": True, "recovery_point": POINT},
        ),
        (["commit"], S.PLANNED_FAILED_OVER, Side.RECOVERY, {}),
        (["cancel"], S.UNPLANNED_FAILED_OVER, Side.RECOVERY, {}),
        (
            ["change-point", "--recovery-point", POINT],
            S.UNPLANNED_FAILED_OVER,
            Side.RECOVERY,
            {"recovery_point": POINT},
        ),
        (
            ["reverse", "--source-changes", "discard"],
            S.UNPLANNED_COMMITTED,
            Side.RECOVERY,
            {"failover_direction": "RecoveryToPrimary", "source_changes": "Discard"},
        ),
    ],
)
def test_each_command_sends_what_it_says(
    shell: Shell,
    command: list[str],
    state: ProtectionState,
    active: Side,
    arguments: dict[str, object],
) -> None:
    put(shell, state, active)
    verb, *options = command
    yes = [] if verb == "test" else ["--yes"]
    said = shell.run("failover", verb, "vm1", *options, *yes, "--wait")
    (sent,) = shell.hub.hub.arguments
    assert {name: sent[name] for name in arguments} == arguments
    assert "of VM1: done." in said
    assert ("networks stay untested" in said) == (command == ["test"])


def test_what_is_not_allowed_is_not_sent_and_what_is_allowed_is_said(shell: Shell) -> None:
    said = shell.run("failover", "commit", "VM1", "--yes", code=ExitCode.REFUSED)
    assert "Commit is not allowed now" in said
    assert "site-recovery failover planned VM1" in said
    assert shell.hub.hub.arguments == []


def test_what_replicates_well_is_not_resynchronized(shell: Shell) -> None:
    said = shell.run("failover", "resynchronize", "VM1", code=ExitCode.REFUSED)
    assert "RepairReplication is not allowed now" in said
    assert shell.hub.hub.arguments == []


def test_a_machine_that_a_job_holds_names_the_job(shell: Shell) -> None:
    shell.hub.hub.finish_jobs = False
    said = shell.run("failover", "planned", "VM1", "--yes")
    (job,) = shell.hub.hub.jobs
    assert f"site-recovery job watch {job}" in said
    again = shell.run("failover", "planned", "VM1", "--yes", code=ExitCode.REFUSED)
    assert f"job {job} holds it: site-recovery job watch {job}" in again
    assert len(shell.hub.hub.arguments) == 1


def test_a_failed_job_is_told_with_its_way_on(shell: Shell) -> None:
    shell.hub.hub.fail_jobs = True
    said = shell.run("failover", "planned", "VM1", "--yes", "--wait", code=ExitCode.JOB_FAILED)
    for word in ("failed ", "28020", "cause ", "remedy ", "next ", "site-recovery job restart"):
        assert word in said


def test_it_asks_before_it_stops_anything(shell: Shell) -> None:
    assert "Shut down VM1" in shell.run("failover", "planned", "VM1", code=1, typed="n\n")
    assert shell.hub.hub.arguments == []
    shell.run("failover", "planned", "VM1", typed="y\n")
    assert len(shell.hub.hub.arguments) == 1


def test_a_name_of_several_machines_is_refused_with_them_all(shell: Shell) -> None:
    item = shell.hub.hub.items[MACHINE]
    second = "11111111-913b-4297-8c35-1aae8c388f63"
    shell.hub.hub.items[second] = item.model_copy(update={"id": second})
    said = shell.run("failover", "planned", "VM1", "--yes", code=ExitCode.USAGE)
    assert MACHINE in said
    assert second in said
    shell.run("failover", "planned", second.upper(), "--yes", "--wait")
    nothing = shell.run("failover", "planned", "VM9", "--yes", code=ExitCode.NOT_FOUND)
    assert "see: site-recovery protect list" in nothing


def test_a_plan_goes_away_from_where_its_machines_run(shell: Shell) -> None:
    make_plan(shell)
    put(shell, S.PROTECTED, Side.RECOVERY)
    said = shell.run("failover", "planned", "o'neil", "--plan", "--yes")
    (job,) = shell.hub.hub.jobs.values()
    assert "RecoveryToPrimary" in job.model_dump_json()
    assert "planned failover of O'Neil: job " in said
    put(shell, S.PLANNED_FAILED_OVER, Side.PRIMARY)
    refused = shell.run("failover", "test", "O'Neil", "--plan", code=ExitCode.REFUSED)
    name = shlex.quote("O'Neil")
    assert f"site-recovery failover commit {name} --plan" in refused


@pytest.mark.parametrize(
    ("command", "state", "order"),
    [
        ("test", S.PROTECTED, (SignedOperation.TEST_FAILOVER, Direction.PRIMARY_TO_RECOVERY)),
        ("cleanup", S.TEST_OPEN, (SignedOperation.TEST_FAILOVER_CLEANUP, None)),
        ("planned", S.PROTECTED, (SignedOperation.PLANNED_FAILOVER, Direction.PRIMARY_TO_RECOVERY)),
        ("commit", S.PLANNED_FAILED_OVER, (SignedOperation.COMMIT, None)),
        ("cancel", S.PLANNED_FAILED_OVER, (SignedOperation.CANCEL_FAILOVER, None)),
        (
            "reverse",
            S.PLANNED_COMMITTED,
            (SignedOperation.REVERSE_REPLICATE, Direction.RECOVERY_TO_PRIMARY),
        ),
    ],
)
def test_a_plan_is_signed_for_machine_by_machine(
    shell: Shell,
    tmp_path: Path,
    command: str,
    state: ProtectionState,
    order: tuple[SignedOperation, Direction | None],
) -> None:
    key, file = new_key(), tmp_path / "prod.key"
    file.touch(mode=0o600)
    file.write_text(f"{key}\n")
    shell.login("--channel-integrity-key-file", str(file))
    make_plan(shell)
    active = Side.PRIMARY if state in {S.PROTECTED, S.TEST_OPEN} else Side.RECOVERY
    put(shell, state, active)
    yes = [] if command == "test" else ["--yes"]
    shell.run("failover", command, "O'Neil", "--plan", *yes)
    (job,) = shell.hub.hub.jobs.values()
    item = shell.hub.hub.items[MACHINE].id
    text = member_signature(job, item)
    assert text is not None
    signature = read_signature(text)
    assert holds(key, signature.signed_text, signature.hmac)
    assert signature.order == Order(order[0], item, order[1])


def test_injected_events_are_signed_as_the_operations_themselves(
    shell: Shell, tmp_path: Path
) -> None:
    key, file = new_key(), tmp_path / "prod.key"
    file.touch(mode=0o600)
    file.write_text(f"{key}\n")
    shell.login("--channel-integrity-key-file", str(file))
    make_plan(shell)
    told = {"injectionId": "i", "jobId": "j"}
    shell.hub.answers["POST", "/hub/v1/vaults/v/injections"] = web.json_response(told)
    ahead = '{"failoverDirection": "PrimaryToRecovery"}'
    inject = ("inject", "schedule", "planned_failover", "--arguments", ahead)
    shell.run(*inject, "--item", "VM1")
    shell.run(*inject, "--plan", "O'Neil")
    shell.run(*inject, "--item", "VM1", "--cron", "30 2 * * 6")
    (of_machine, _), (of_plan, body), (later, _) = shell.hub.signed
    item = shell.hub.hub.items[MACHINE].id
    assert (of_plan, later) == (None, None)
    texts = json.loads(body)["arguments"]["operatorSignatures"]
    for text in (of_machine, texts[item]):
        signature = read_signature(str(text))
        assert holds(key, signature.signed_text, signature.hmac)
        ahead_order = Order(SignedOperation.PLANNED_FAILOVER, item, Direction.PRIMARY_TO_RECOVERY)
        assert signature.order == ahead_order


def test_options_that_are_of_machines_alone_are_refused_for_plans(shell: Shell) -> None:
    point = ("--recovery-point", POINT)
    for command in (("test", *point), ("unplanned", *point), ("reverse", "--source-changes=keep")):
        shell.run("failover", *command, "P", "--plan", code=ExitCode.USAGE)
